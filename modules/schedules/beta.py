"""Beta: steps dense at both ends."""

from __future__ import annotations

from collections.abc import Sequence

from modules.core.sampling import NoiseLevels, schedule

ALPHA = BETA = 0.6


@schedule("beta", label="Beta", rank=80)
def beta(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """Quantiles of the Beta(0.6, 0.6) distribution between smallest and largest sigma, then 0 (Lee et al. 2024).

    "Beta Sampling is All You Need", arXiv:2407.12173. As in AUTOMATIC1111 the quantiles space the sigmas themselves;
    ComfyUI and Forge space the timesteps with them and leave out those that coincide.
    """
    from scipy.special import betaincinv  # at first use: 0.2 s that nothing else in this half needs

    low, high = levels.sigma_min, levels.sigma_max
    quantiles = (float(betaincinv(ALPHA, BETA, 1 - index / max(steps - 1, 1))) for index in range(steps))
    return [low + quantile * (high - low) for quantile in quantiles] + [0.0]
