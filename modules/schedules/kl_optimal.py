"""KL Optimal: even steps in the arc tangent of sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modules.core.sampling import NoiseLevels, schedule
from modules.core.spacing import RANGE_OPTIONS, bounds


@schedule("kl_optimal", label="KL Optimal", options=RANGE_OPTIONS, rank=44)
def kl_optimal(steps: int, levels: NoiseLevels, *, sigma_min: float = 0, sigma_max: float = 0) -> Sequence[float]:
    """Even steps from atan(largest sigma) towards atan(smallest sigma), the last one on to 0.

    Sabour et al. 2024 (Align Your Steps), theorem 3.1: what minimises the divergence for Gaussian data. AUTOMATIC1111
    asks at the same levels and ends at the smallest sigma, which leaves its noise in the picture. ComfyUI takes one
    level more between the same ends.
    """
    low, high = (math.atan(sigma) for sigma in bounds(levels, sigma_min, sigma_max))
    return [math.tan(high + index / steps * (low - high)) for index in range(steps)] + [0.0]
