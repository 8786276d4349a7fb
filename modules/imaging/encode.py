"""Pixels to bytes: a lossless PNG quick enough to make beside the sampler, and a JPEG for previews.

The PNG encoder is our own: the "up" filter and run-length deflate take 38 ms for 1024 x 1024 pixels where Pillow's
quickest level takes 136 ms, and the file is no larger (tests/benchmarks/png.py).
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from modules.imaging.png import SIGNATURE, chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IDAT_BYTES = 1 << 20  # a chunk is at most 2**31 - 1 bytes; readers buffer one chunk at a time


def encode_png(rgb: NDArray[np.uint8] | bytes, size: tuple[int, int] | None = None) -> bytes:
    """A PNG without text chunks; the same pixels give the same bytes.

    rgb: (H, W, 3) uint8, or its bytes together with `size` as (width, height).
    """
    pixels = _checked(rgb, size)
    height, width, _ = pixels.shape
    rows = pixels.reshape(height, width * 3)
    filtered = np.empty((height, 1 + width * 3), dtype=np.uint8)
    filtered[:, 0] = 2  # filter type "up": each byte less the one above it
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    deflate = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    data = deflate.compress(filtered.tobytes()) + deflate.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 2, 0, 0, 0))  # 8 bits, RGB
    parts = [data[start : start + _IDAT_BYTES] for start in range(0, len(data), _IDAT_BYTES)]
    return b"".join((SIGNATURE, chunk(b"IHDR", header), *(chunk(b"IDAT", part) for part in parts), chunk(b"IEND", b"")))


def encode_jpeg(
    rgb: NDArray[np.uint8] | bytes,
    size: tuple[int, int] | None = None,
    *,
    quality: int = 85,
    longest: int | None = None,
) -> bytes:
    """A JPEG for previews. rgb, size: as in `encode_png`. longest: shrink to this many pixels on the longer side."""
    image = Image.fromarray(_checked(rgb, size))
    if longest is not None and max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return encoded(image, "JPEG", quality=quality)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of `image` in the format that Pillow calls `kind`."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def media_type(data: bytes) -> str:
    """The media type of an encoded picture, from its first bytes; "application/octet-stream" where unknown."""
    if data.startswith(SIGNATURE):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "image/avif"
    return "application/octet-stream"


def _checked(rgb: NDArray[np.uint8] | bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    if isinstance(rgb, bytes | bytearray | memoryview):
        if size is None:
            raise ValueError("bytes need their size, as (width, height)")
        rgb = np.frombuffer(rgb, dtype=np.uint8).reshape(size[1], size[0], 3)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"a picture is (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}")
    return np.ascontiguousarray(rgb)
