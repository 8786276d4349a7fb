"""A copy of a picture that says nothing of how it was made: no text, EXIF or XMP, and none hidden in its pixels.

The compressed pixels are copied as they are. Only where text is hidden in them are they written anew, with those lowest
bits set alike: by what a bit of 255 makes, and losslessly.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
from PIL import ExifTags, Image

from modules.core.errors import StorageError
from modules.imaging.avif import without_metadata as stripped_avif
from modules.imaging.encode import encoded, media_type
from modules.imaging.pictures import opened
from modules.imaging.png import SIGNATURE, chunk
from modules.imaging.stealth import MAX_HIDING_PIXELS, hidden

# What decides how the pixels look, and the frames of an animation. A profile (iCCP) is one of colours.
_PNG_KEPT = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"pHYs",
     b"cICP", b"mDCV", b"cLLI", b"acTL", b"fcTL", b"fdAT"}
)  # fmt: skip
_WEBP_DROPPED = frozenset({b"EXIF", b"XMP "})
_WEBP_FLAGS = 0x08 | 0x04  # of VP8X: there is EXIF, there is XMP
_NUMBER_AND_SEED = re.compile(r"^(\d{5,9})-\d+(?=$|-)")
_FIRST = r"\1"


def stripped(data: bytes) -> bytes:
    """The picture without anything that tells of its making. Raises StorageError where it is not a readable picture."""
    kind = media_type(data)
    if kind == "image/jpeg":
        return _jpeg(data, _turned(data))
    if kind == "image/avif":
        clean = stripped_avif(data)
    elif kind in ("image/png", "image/webp"):
        clean = _png(data) if kind == "image/png" else _webp(data)
        with opened(clean) as image:
            clean = _unhidden(image) or clean
    else:
        raise StorageError("The picture is not a PNG, JPEG, WebP or AVIF file.")
    return clean


def _turned(data: bytes) -> int:
    """How EXIF says the picture is turned, 1 (not at all) to 8."""
    with opened(data) as image:
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:  # noqa: BLE001 Pillow raises nearly everything on damaged EXIF, which goes anyway
            return 1
    return turned if isinstance(turned, int) and 1 < turned <= 8 else 1


def _unhidden(image: Image.Image) -> bytes | None:
    """The picture with the bits that hide text set alike; None where it hides none."""
    if image.width * image.height > MAX_HIDING_PIXELS or getattr(image, "n_frames", 1) > 1:
        return None
    try:
        found = hidden(image)
        bits = found.bits if found else 0
        where = found.where if found else ""
    except StorageError:  # damaged: it is not to stay because of that
        bits, where = image.width * image.height * 3, "alpha" if image.mode in ("RGBA", "LA") else "rgb"
    pixels = np.array(image)
    if not where and image.mode in ("RGBA", "LA") and pixels[:, :, -1].min() == 254:
        bits, where = image.width * image.height, "alpha"  # opaque but for its lowest bits, whoever wrote them how
    if not where:
        return None
    down = pixels.swapaxes(0, 1).copy()  # columns, as text is hidden
    if where == "alpha":
        flat = down[:, :, -1].reshape(-1)
        flat[:bits] |= 1
        down[:, :, -1] = flat.reshape(down.shape[:2])
    else:
        flat = down[:, :, :3].reshape(-1)
        flat[:bits] &= 254
        down[:, :, :3] = flat.reshape(*down.shape[:2], 3)
    clean = Image.fromarray(np.ascontiguousarray(down.swapaxes(0, 1)), image.mode if image.mode != "LA" else None)
    profile = {"icc_profile": image.info["icc_profile"]} if image.info.get("icc_profile") else {}
    if image.format == "PNG":
        return encoded(clean, "PNG", compress_level=4, **profile)
    return encoded(clean, "WEBP", lossless=True, exact=True, **profile)


def _png(data: bytes) -> bytes:
    parts, place = [SIGNATURE], len(SIGNATURE)
    while place + 12 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + length]
        stored = data[place + 8 + length : place + 12 + length]
        if len(stored) < 4:
            break
        if kind in _PNG_KEPT:
            if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(stored, "big"):
                raise StorageError(
                    f"The picture is damaged: the checksum of a {kind.decode('latin-1')} chunk is wrong."
                )
            parts.append(chunk(kind, body))
        if kind == b"IEND":
            return b"".join(parts)
        place += 12 + length
    raise StorageError("The picture is truncated: it ends before its last chunk.")


def _jpeg(data: bytes, turned: int) -> bytes:
    """Segments up to the first scan: application data and comments go, but for JFIF, colour profile and Adobe's mark,
    which says how the colours are stored. How the picture is turned stays, in an EXIF of its own."""
    parts, place = [data[:2]], 2
    if turned != 1:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = turned
        body = exif.tobytes()
        parts.append(b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body)
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker == 0xDA:
            return b"".join(parts) + _scans(data[place:])
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        segment = data[place : place + 2 + length]
        profile = marker == 0xE2 and segment[4:16] == b"ICC_PROFILE\0"
        told = 0xE0 <= marker <= 0xEF and marker not in (0xE0, 0xEE) and not profile
        if not told and marker != 0xFE:
            parts.append(segment)
        place += 2 + length
    raise StorageError("The picture is damaged: its JPEG segments do not lead to the pixels.")


def _scans(data: bytes) -> bytes:
    """From the first scan to the end of the picture: what programs append behind that goes."""
    end = data.rfind(b"\xff\xd9")
    return data[: end + 2] if end >= 0 else data


def _webp(data: bytes) -> bytes:
    parts, place = list[bytes](), 12
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while place + 8 <= end:
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        whole = data[place : place + 8 + length + length % 2]
        if kind == b"VP8X":
            whole = whole[:8] + bytes((whole[8] & ~_WEBP_FLAGS,)) + whole[9:]
        if kind not in _WEBP_DROPPED:
            parts.append(whole)
        place += 8 + length + length % 2
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def shared_name(name: str) -> str:
    """What the copy of a file is called: a name of ours loses the seed, which tells how the picture was made."""
    stem, _, ending = name.rpartition(".")
    return f"{_NUMBER_AND_SEED.sub(_FIRST, stem)}-shared.{ending}"
