"""Picture files of any kind that people keep in outputs/: what they say of themselves, and small versions of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from modules.core.errors import StorageError
from modules.imaging.encode import encoded
from modules.imaging.formats import PILLOW_NAMES, USER_COMMENT, kinds, xmp_texts
from modules.imaging.png import MAX_TEXT_BYTES, SIGNATURE, read_png

MAX_PIXELS = 80_000_000  # below Pillow's own warning (89 million): a 4096 x 4096 picture has 17 million
# Whatever a file is called, Pillow's many other readers (one of which runs Ghostscript) are not for it
_FORMATS = tuple(PILLOW_NAMES[kind] for kind in kinds())
# Where programs put what they have to say beside the user comment
_EXIF_TEXTS = {0x010E: "exif:ImageDescription", 0x010F: "exif:Make", 0x0110: "exif:Model", 0x0131: "exif:Software"}


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What a picture file says of itself. width, height: pixels. format: as Pillow calls it, such as "PNG".

    texts: PNG text chunks; of the other formats `parameters` from EXIF's user comment, "exif:Software" and the like,
    and our own texts from XMP.
    """

    width: int
    height: int
    format: str
    texts: dict[str, str]


def picture_facts(source: Path | bytes) -> PictureFacts:
    """Size and texts of a PNG, JPEG, WebP or AVIF; no pixel is decoded.

    Raises StorageError where it is not a readable picture, is truncated (PNG), carries more text than MAX_TEXT_BYTES
    or has more than MAX_PIXELS.
    """
    name = source.name if isinstance(source, Path) else "The picture"
    if _start(source) == SIGNATURE:
        png = read_png(source)
        _refuse_bomb(png.width, png.height, name)
        return PictureFacts(width=png.width, height=png.height, format="PNG", texts=dict(png.texts))
    with opened(source) as image:
        return PictureFacts(width=image.width, height=image.height, format=image.format or "", texts=_texts(image))


def thumbnail(source: Path | bytes, side: int = 384) -> bytes:
    """A small WebP (JPEG where Pillow has no WebP) of at most `side` pixels on the longer side.

    Raises StorageError where the source is not a readable picture or has more than MAX_PIXELS.
    """
    with opened(source) as image:
        image.draft("RGB", (side, side))  # a JPEG is decoded at a fraction of its size
        small = ImageOps.exif_transpose(image)
        small.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
        if features.check("webp"):
            return encoded(
                small.convert("RGBA" if small.has_transparency_data else "RGB"), "WEBP", quality=82, method=2
            )
        return encoded(small.convert("RGB"), "JPEG", quality=85)


@contextmanager
def opened(source: Path | bytes) -> Iterator[Image.Image]:
    """The picture, not decoded yet. Raises StorageError for whatever Pillow finds wrong with it, in the block too."""
    name = source.name if isinstance(source, Path) else "The picture"
    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=_FORMATS) as image:
            _refuse_bomb(image.width, image.height, name)
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise StorageError(f"{name} has more than {MAX_PIXELS:,} pixels and is not opened.") from error
    except UnidentifiedImageError as error:
        raise StorageError(
            f"{name if isinstance(source, Path) else 'The file'} is not a picture that can be read.",
            hint="Accepted: PNG, JPEG, WebP and AVIF.",
        ) from error
    except StorageError:
        raise
    except Exception as error:  # Pillow's readers raise nearly everything on damage, struct.error and TypeError too
        raise StorageError(f"{name} is not a readable picture: {error}.") from error


def _start(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:8]
    try:
        with source.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise StorageError(f"{source.name} cannot be read: {error.strerror or error}.") from error


def _texts(image: Image.Image) -> dict[str, str]:
    exif = image.getexif()
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(USER_COMMENT, b"")
    text = _user_comment(comment if isinstance(comment, bytes) else str(comment).encode())
    texts = {"parameters": text} if text else {}
    for tag, name in _EXIF_TEXTS.items():
        if (value := str(exif.get(tag, "")).strip("\0 ")) and len(value) <= MAX_TEXT_BYTES:
            texts[name] = value
    packet = image.info.get("xmp", b"")
    if isinstance(packet, bytes) and len(packet) <= MAX_TEXT_BYTES:
        texts |= xmp_texts(packet)
    return texts


def _refuse_bomb(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise StorageError(
            f"{name} is {width} x {height} pixels and is not opened.", hint=f"At most {MAX_PIXELS:,} pixels are."
        )


def _user_comment(comment: bytes) -> str:
    """EXIF's UserComment: 8 bytes name the encoding. AUTOMATIC1111 writes UNICODE as big-endian UTF-16."""
    if len(comment) > MAX_TEXT_BYTES:
        raise StorageError(f"The picture carries more than {MAX_TEXT_BYTES >> 20} MiB of text and is not read.")
    kind, text = comment[:8], comment[8:]
    if kind == b"UNICODE\0":
        # Other writers use the file's own byte order: a parameters text has plain letters in one of the two only
        return max((text.decode(f"utf-16-{order}", errors="replace") for order in ("be", "le")), key=_letters).strip(
            "\0"
        )
    if kind in {b"ASCII\0\0\0", b"\0" * 8}:
        return text.decode("utf-8", errors="replace").strip("\0 ")
    return comment.decode("utf-8", errors="replace").strip("\0 ")


def _letters(text: str) -> int:
    """How many characters are printable ASCII or line breaks."""
    return sum(" " <= character <= "~" or character == "\n" for character in text)
