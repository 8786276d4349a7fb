"""How far two pictures are apart, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modules.imaging.pictures import opened


@dataclass(frozen=True, kw_only=True)
class Difference:
    """largest: of any channel of any pixel, 0 to 255. mean: over all of them. share: of pixels that differ, 0 to 1."""

    largest: int
    mean: float
    share: float


def picture_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height. Raises StorageError where it is not a readable picture."""
    with opened(source) as image:
        return image.size


def difference(first: Path | bytes, second: Path | bytes) -> Difference:
    """Of two pictures of one size, in RGB. Raises StorageError where one is not readable, ValueError for two sizes."""
    with opened(first) as image:
        one = np.asarray(image.convert("RGB"), dtype=np.int16)
    with opened(second) as image:
        other = np.asarray(image.convert("RGB"), dtype=np.int16)
    if one.shape != other.shape:
        raise ValueError(f"pictures of one size are compared, not {one.shape} and {other.shape}")
    apart = np.abs(one - other)
    share = float((apart.max(axis=2) > 0).mean())
    return Difference(largest=int(apart.max()), mean=float(apart.mean()), share=share)
