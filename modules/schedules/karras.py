"""Karras: even steps in sigma ** (1 / rho)."""

from __future__ import annotations

from collections.abc import Sequence

from modules.core.sampling import NoiseLevels, schedule

RHO = 7.0


@schedule("karras", label="Karras", aliases=("ka",), rank=20)
def karras(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """Karras et al. 2022, equation 5 with rho = 7: from the model's largest to its smallest sigma, then 0."""
    high, low = levels.sigma_max ** (1 / RHO), levels.sigma_min ** (1 / RHO)
    return [(high + index / max(steps - 1, 1) * (low - high)) ** RHO for index in range(steps)] + [0.0]
