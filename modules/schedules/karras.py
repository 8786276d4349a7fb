"""Karras: even steps in sigma ** (1 / rho)."""

from __future__ import annotations

from collections.abc import Sequence

from modules.core.sampling import NoiseLevels, Option, schedule
from modules.core.spacing import RANGE_OPTIONS, bounds


@schedule(
    "karras",
    label="Karras",
    aliases=("ka",),
    options={**RANGE_OPTIONS, "rho": Option(default=7, low=1, high=100)},
    rank=20,
)
def karras(
    steps: int, levels: NoiseLevels, *, sigma_min: float = 0, sigma_max: float = 0, rho: float = 7
) -> Sequence[float]:
    """Karras et al. 2022, equation 5: from the largest to the smallest sigma, then 0."""
    smallest, largest = bounds(levels, sigma_min, sigma_max)
    high, low = largest ** (1 / rho), smallest ** (1 / rho)
    return [(high + index / max(steps - 1, 1) * (low - high)) ** rho for index in range(steps)] + [0.0]
