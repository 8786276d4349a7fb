"""KL Optimal: even steps in the arc tangent of sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modules.core.sampling import NoiseLevels, schedule
from modules.core.spacing import RANGE_OPTIONS, bounds


@schedule("kl_optimal", label="KL Optimal", options=RANGE_OPTIONS, rank=44)
def kl_optimal(steps: int, levels: NoiseLevels, *, sigma_min: float = 0, sigma_max: float = 0) -> Sequence[float]:
    """Even steps from atan(largest sigma) to atan(smallest sigma), then 0 (Sabour et al. 2024, theorem 3.1).

    What minimises the divergence for Gaussian data. AUTOMATIC1111 takes the smallest sigma for the end instead of 0,
    which leaves its noise in the picture; ComfyUI ends as here.
    """
    low, high = (math.atan(sigma) for sigma in bounds(levels, sigma_min, sigma_max))
    return [math.tan(high + index / max(steps - 1, 1) * (low - high)) for index in range(steps)] + [0.0]
