"""Hides text in pixels, bit by bit and column by column, as a reader would expect it: an implementation of its own."""

from __future__ import annotations

import gzip

from PIL import Image


def hide(image: Image.Image, text: str, *, where: str = "alpha", packed: bool = False) -> Image.Image:
    """A copy of `image` (RGBA for "alpha", RGB for "rgb") with `text` in its lowest bits."""
    data = gzip.compress(text.encode()) if packed else text.encode()
    signature = {("alpha", False): "stealth_pnginfo", ("alpha", True): "stealth_pngcomp",
                 ("rgb", False): "stealth_rgbinfo", ("rgb", True): "stealth_rgbcomp"}[where, packed]  # fmt: skip
    message = "".join(f"{byte:08b}" for byte in signature.encode()) + f"{len(data) * 8:032b}"
    bits = iter(message + "".join(f"{byte:08b}" for byte in data))
    copy = image.copy()
    for x in range(copy.width):
        for y in range(copy.height):
            pixel = list(copy.getpixel((x, y)))  # type: ignore[arg-type]
            for channel in (3,) if where == "alpha" else (0, 1, 2):
                bit = next(bits, None)
                if bit is not None:
                    pixel[channel] = pixel[channel] & 254 | int(bit)
            copy.putpixel((x, y), tuple(pixel))
    assert next(bits, None) is None
    return copy
