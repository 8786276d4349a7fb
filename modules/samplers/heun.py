"""Heun's method on the probability-flow ODE."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Query, Sampling, sampler
from modules.core.stepping import CHURN_OPTIONS, Churn

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "heun",
    label="Heun",
    order=2,
    evaluations=2,
    aliases=("k_heun", "sample_heun", "HeunDiscreteScheduler"),
    options=CHURN_OPTIONS,
    rank=70,
)
def heun(
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = 1e6,
    s_noise: float = 1.0,
) -> Sampling:
    """Karras et al. 2022, algorithm 2: an Euler step, corrected by the slope at its end.

    The last step, to sigma 0 where there is no slope, stays an Euler step and asks once.
    """
    churn = Churn(s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x, sigma_hat = churn.raised(x, sigma, len(sigmas) - 1, noise)
        h = sigma_next - sigma_hat
        denoised = yield Query(x, sigma_hat, step)
        d = (x - denoised) / sigma_hat
        if sigma_next > 0:
            predicted = x + h * d
            denoised = yield Query(predicted, sigma_next, step)
            d = (d + (predicted - denoised) / sigma_next) / 2
        x = x + h * d
    return x
