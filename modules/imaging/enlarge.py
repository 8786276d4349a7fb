"""Make small pictures larger, smoothly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def enlarge(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize (h, w, 3) uint8 to (height, width, 3), bicubic."""
    image = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
