"""Beta: steps dense at both ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from modules.core.errors import RequestError
from modules.core.sampling import NoiseLevels, Option, schedule
from modules.core.spacing import RANGE_OPTIONS, bounds


@schedule(
    "beta",
    label="Beta",
    options={
        **RANGE_OPTIONS,
        "alpha": Option(default=0.6, low=0.05, high=20),
        "beta": Option(default=0.6, low=0.05, high=20),
    },
    rank=80,
)
def beta(
    steps: int,
    levels: NoiseLevels,
    *,
    sigma_min: float = 0,
    sigma_max: float = 0,
    alpha: float = 0.6,
    beta: float = 0.6,
) -> Sequence[float]:
    """Quantiles of the Beta distribution between smallest and largest sigma, then 0 (Lee et al. 2024).

    "Beta Sampling is All You Need", arXiv:2407.12173. As in AUTOMATIC1111 the quantiles space the sigmas themselves;
    ComfyUI and Forge space the timesteps with them and leave out those that coincide. Raises RequestError where the
    distribution is so steep that two steps would have one level.
    """
    from scipy.special import betaincinv  # at first use: 0.2 s that nothing else in this half needs

    low, high = bounds(levels, sigma_min, sigma_max)
    quantiles = (float(betaincinv(alpha, beta, 1 - index / max(steps - 1, 1))) for index in range(steps))
    sigmas = [low + quantile * (high - low) for quantile in quantiles] + [0.0]
    if any(before <= after for before, after in pairwise(sigmas)):
        raise RequestError(
            "schedule_options.alpha", "makes two steps of one level", accepted="values nearer to 1, or fewer steps"
        )
    return sigmas
