"""Exponential: even steps in log sigma, or steps that grow longer with a power."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modules.core.sampling import NoiseLevels, Option, schedule
from modules.core.spacing import RANGE_OPTIONS, bounds


@schedule("exponential", label="Exponential", aliases=("exp",), options=RANGE_OPTIONS, rank=30)
def exponential(steps: int, levels: NoiseLevels, *, sigma_min: float = 0, sigma_max: float = 0) -> Sequence[float]:
    """Even steps in log sigma, the "uniform logSNR" spacing of Lu et al. 2022 (DPM-Solver), section 4.3; then 0."""
    return polynomial(steps, *bounds(levels, sigma_min, sigma_max), 1)


@schedule(
    "polyexponential",
    label="Polyexponential",
    options={**RANGE_OPTIONS, "rho": Option(default=1, low=0.01, high=100)},
    rank=35,
)
def polyexponential(
    steps: int, levels: NoiseLevels, *, sigma_min: float = 0, sigma_max: float = 0, rho: float = 1
) -> Sequence[float]:
    """Log sigma falls as (1 - i / (steps - 1)) ** rho, then 0 (k-diffusion). rho 1 is Exponential."""
    return polynomial(steps, *bounds(levels, sigma_min, sigma_max), rho)


def polynomial(steps: int, low: float, high: float, rho: float) -> Sequence[float]:
    """Sigmas from `high` to `low` whose logarithms fall as a power, then 0."""
    ramp = ((1 - index / max(steps - 1, 1)) ** rho for index in range(steps))
    return [math.exp(math.log(low) + share * (math.log(high) - math.log(low))) for share in ramp] + [0.0]
