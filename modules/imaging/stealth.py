"""Text hidden in the lowest bits of a picture's pixels, as the "stealth PNG info" extension and NovelAI hide it.

The bits go down the columns, from the left. A signature of 15 characters says where and how: "stealth_pnginfo" and
"stealth_pngcomp" (gzip) in the alpha channel, one bit per pixel; "stealth_rgbinfo" and "stealth_rgbcomp" in red, green
and blue, three bits per pixel. After it come 32 bits, how many bits the text has, and the text, the highest bit first.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modules.core.errors import StorageError
from modules.imaging.pictures import opened
from modules.imaging.png import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

MAX_HIDING_PIXELS = 20_000_000  # all are decoded for it, 4 bytes each
_HEAD_BITS = 15 * 8 + 32
_SIGNATURES = {b"stealth_pnginfo": False, b"stealth_pngcomp": True, b"stealth_rgbinfo": False, b"stealth_rgbcomp": True}
_LOSSLESS = frozenset({"PNG", "WEBP"})  # the formats in which lowest bits survive


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """Text found in pixels. where: "alpha" or "rgb". bits: how many of its lowest bits it takes. text: unpacked."""

    where: str
    bits: int
    text: str


def hidden_texts(source: Path | bytes) -> dict[str, str]:
    """The texts that a picture hides, keyword -> text as its chunks would have them; empty where it hides none.

    Raises StorageError where the picture is not readable, or what it hides is damaged or too large.
    """
    with opened(source) as image:
        if image.format not in _LOSSLESS or image.width * image.height > MAX_HIDING_PIXELS:
            return {}
        found = hidden(image)
    if found is None:
        return {}
    try:
        values = json.loads(found.text)
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict):  # all of NovelAI's chunks in one
        return {name: text for name, text in values.items() if isinstance(text, str)}
    return {"parameters": found.text}


def hidden(image: Image.Image) -> Hidden | None:
    """What `image`, which is decoded for it, hides. Raises StorageError where that is damaged or too large."""
    for where, modes, channels in (("alpha", ("RGBA", "LA"), 1), ("rgb", ("RGB", "RGBA"), 3)):
        if image.mode not in modes:
            continue
        # The first columns tell whether it is worth taking all the others apart
        columns = -(-_HEAD_BITS // (channels * image.height))
        head = _bits(image.crop((0, 0, min(columns, image.width), image.height)), where)
        if _signature(head, where) is not None:
            return _read(_bits(image, where), where)
    return None


def _bits(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """The lowest bits, (n,) uint8 of 0 and 1, in the order in which text is hidden in them."""
    if where == "alpha":
        return np.asarray(image.getchannel("A"), dtype=np.uint8).T.reshape(-1) & np.uint8(1)
    pixels = np.asarray(image, dtype=np.uint8)[:, :, :3]
    return pixels.transpose(1, 0, 2).reshape(-1) & np.uint8(1)


def _signature(bits: NDArray[np.uint8], where: str) -> bool | None:
    """Whether the text is packed; None where there is none."""
    name = np.packbits(bits[:120]).tobytes()
    return _SIGNATURES.get(name) if (b"rgb" in name) == (where == "rgb") else None


def _read(bits: NDArray[np.uint8], where: str) -> Hidden:
    packed = _signature(bits, where)
    length = int.from_bytes(np.packbits(bits[120:_HEAD_BITS]).tobytes(), "big")
    if length > min(len(bits) - _HEAD_BITS, MAX_TEXT_BYTES * 8):
        raise StorageError("The text hidden in the picture's pixels is damaged: it is longer than the picture.")
    data = np.packbits(bits[_HEAD_BITS : _HEAD_BITS + length]).tobytes()
    text = (_unzipped(data) if packed else data).decode("utf-8", "replace")
    return Hidden(where=where, bits=_HEAD_BITS + length, text=text)


def _unzipped(data: bytes) -> bytes:
    inflate = zlib.decompressobj(wbits=31)  # gzip
    try:
        text = inflate.decompress(data, MAX_TEXT_BYTES + 1)
    except zlib.error as error:
        raise StorageError(f"The text hidden in the picture's pixels is damaged: {error}.") from error
    if len(text) > MAX_TEXT_BYTES:
        raise StorageError(f"The picture hides more than {MAX_TEXT_BYTES >> 20} MiB of text, which is not read.")
    return text
