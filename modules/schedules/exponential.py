"""Exponential: even steps in log sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modules.core.sampling import NoiseLevels, schedule


@schedule("exponential", label="Exponential", aliases=("exp",), rank=30)
def exponential(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """Even steps in log sigma, the "uniform logSNR" spacing of Lu et al. 2022 (DPM-Solver), section 4.3; then 0."""
    high, low = math.log(levels.sigma_max), math.log(levels.sigma_min)
    return [math.exp(high + index / max(steps - 1, 1) * (low - high)) for index in range(steps)] + [0.0]
