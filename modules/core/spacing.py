"""What several schedules share: the range that their levels span, and tables of levels stretched to other lengths."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from modules.core.errors import RequestError
from modules.core.sampling import NoiseLevels, Option

MOST_SIGMA = 1000.0  # no model is trained on more noise than a few hundred times its data

RANGE_OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        "sigma_min": Option(default=0, low=0, high=MOST_SIGMA),
        "sigma_max": Option(default=0, low=0, high=MOST_SIGMA),
    }
)


def bounds(levels: NoiseLevels, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    """(smallest, largest) sigma: those given, and for 0 the model's own. Raises RequestError where they cross."""
    low, high = sigma_min or levels.sigma_min, sigma_max or levels.sigma_max
    if low >= high:
        raise RequestError(
            "schedule_options.sigma_min" if sigma_min else "schedule_options.sigma_max",
            f"{low:g} to {high:g} is no range of noise levels",
            accepted=f"sigma_min below sigma_max; this model has {levels.sigma_min:.4g} to {levels.sigma_max:.4g}",
        )
    return low, high


def stretched(table: Sequence[float], steps: int) -> list[float]:
    """`steps` levels on the table's curve, both its ends included, then 0: linear in log sigma between its entries.

    A single step begins at the table's first level.
    """
    logs = [math.log(sigma) for sigma in table]
    found = []
    for index in range(steps):
        place = index / max(steps - 1, 1) * (len(table) - 1)
        low = min(bisect_right(range(len(table)), place) - 1, len(table) - 2)
        found.append(math.exp(logs[low] + (place - low) * (logs[low + 1] - logs[low])))
    return [*found, 0.0]
