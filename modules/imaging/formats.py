"""The file formats that pictures are kept in, and a finished PNG turned into each of them with its texts.

A PNG carries its texts as text chunks. JPEG, WebP and AVIF carry `parameters` as EXIF's UserComment, where
AUTOMATIC1111 writes it (big-endian UTF-16), and every other text in an XMP packet, under a name space of our own:
programs that rewrite metadata keep those.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from PIL import ExifTags, Image, features

from modules.imaging.encode import encoded
from modules.imaging.png import png_with_text

Kind = Literal["png", "jpg", "webp", "avif"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEDIA_TYPES: Mapping[str, str] = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif",
}  # fmt: skip
PICTURE_SUFFIXES = frozenset(MEDIA_TYPES)
PILLOW_NAMES: Mapping[Kind, str] = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
USER_COMMENT = 0x9286
JPEG_SEGMENT_BYTES = 65_000  # a JPEG's segment has 65,533 bytes, from which names and addresses go off
_NAMESPACE = "urn:inferenz:texts"
_XMP_TEXT = re.compile(r"<inferenz:text name=\"([^\"<>]{1,200})\">([^<]*)</inferenz:text>")


@dataclass(frozen=True, kw_only=True)
class SaveFormat:
    """How pictures are written. quality: 1 to 100, of the formats that lose something (all but PNG)."""

    kind: Kind = "png"
    quality: int = 90


def kinds() -> tuple[Kind, ...]:
    """The formats that this machine's Pillow can write."""
    # Older ones do not know the name AVIF and warn of it
    return tuple(
        kind for kind in KINDS if kind in ("png", "jpg") or (kind in features.modules and features.check(kind))
    )


def finished(png: bytes, texts: Mapping[str, str], wanted: SaveFormat) -> tuple[bytes, Kind]:
    """The file of a finished picture, and the format that it has.

    png: as `encode_png` makes it. It stays a PNG where a JPEG has no room for the texts (prompts of more than 30,000
    characters) and where Pillow was built without the format: better another format than a picture without its texts.
    """
    if wanted.kind != "png" and wanted.kind in kinds():
        exif, xmp = _exif(texts.get("parameters", "")), _xmp(texts)
        if wanted.kind != "jpg" or max(len(exif), len(xmp)) <= JPEG_SEGMENT_BYTES:
            return _compressed(png, wanted, exif=exif, xmp=xmp), wanted.kind
    return png_with_text(png, texts), "png"


def recompressed(png: bytes, wanted: SaveFormat) -> bytes:
    """The picture alone as `finished` writes it, without any text."""
    return png if wanted.kind == "png" else _compressed(png, wanted)


def xmp_texts(packet: bytes) -> dict[str, str]:
    """Our texts in an XMP packet, keyword -> text; empty for everybody else's."""
    text = packet.decode("utf-8", errors="replace")
    if _NAMESPACE not in text:
        return {}
    return {html.unescape(name): html.unescape(value) for name, value in _XMP_TEXT.findall(text)}


def _compressed(png: bytes, wanted: SaveFormat, *, exif: bytes = b"", xmp: bytes = b"") -> bytes:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        metadata = {name: value for name, value in (("exif", exif), ("xmp", xmp)) if value}
        return encoded(image.convert("RGB"), PILLOW_NAMES[wanted.kind], quality=wanted.quality, **metadata)


def _exif(parameters: str) -> bytes:
    if not parameters:
        return b""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be", errors="replace")
    return exif.tobytes()


def _xmp(texts: Mapping[str, str]) -> bytes:
    own = "".join(
        f'<inferenz:text name="{html.escape(name)}">{html.escape(text)}</inferenz:text>'
        for name, text in texts.items()
        if name != "parameters"
    )
    if not own:
        return b""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:inferenz="{_NAMESPACE}">{own}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode("utf-8", errors="replace")
