"""DPM2: the midpoint method in log sigma, plain and ancestral."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Query, Sampling, sampler
from modules.core.stepping import ANCESTRAL_OPTIONS, CHURN_OPTIONS, Churn, ancestral_step

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "dpm2",
    label="DPM2",
    order=2,
    evaluations=2,
    schedule="karras",
    drop_penultimate=True,
    aliases=("k_dpm_2", "sample_dpm_2", "KDPM2", "KDPM2DiscreteScheduler"),
    options=CHURN_OPTIONS,
    rank=80,
)
def dpm2(
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = 1e6,
    s_noise: float = 1.0,
) -> Sampling:
    """The slope at the middle of the step in log sigma, after DPM-Solver-2 (Lu et al. 2022, algorithm 1).

    The step itself is taken in sigma as in Karras et al. 2022, algorithm 2, with its churn.
    """
    churn = Churn(s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x, sigma_hat = churn.raised(x, sigma, len(sigmas) - 1, noise)
        denoised = yield Query(x, sigma_hat, step)
        d = (x - denoised) / sigma_hat
        if sigma_next > 0:
            sigma_mid = math.sqrt(sigma_hat * sigma_next)
            middle = x + (sigma_mid - sigma_hat) * d
            denoised = yield Query(middle, sigma_mid, step)
            d = (middle - denoised) / sigma_mid
        x = x + (sigma_next - sigma_hat) * d
    return x


@sampler(
    "dpm2_a",
    label="DPM2 a",
    names_ensd=True,
    order=None,
    evaluations=2,
    schedule="karras",
    drop_penultimate=True,
    aliases=(
        "k_dpm_2_a",
        "k_dpm_2_ancestral",
        "sample_dpm_2_ancestral",
        "dpm_2_ancestral",
        "KDPM2 ancestral",
        "KDPM2AncestralDiscreteScheduler",
    ),
    options=ANCESTRAL_OPTIONS,
    rank=90,
)
def dpm2_ancestral(
    x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """DPM2 steps down past the next noise level, then fresh noise back up to it."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        denoised = yield Query(x, sigma, step)
        d = (x - denoised) / sigma
        if sigma_down > 0:
            sigma_mid = math.sqrt(sigma * sigma_down)
            middle = x + (sigma_mid - sigma) * d
            denoised = yield Query(middle, sigma_mid, step)
            d = (middle - denoised) / sigma_mid
        x = x + (sigma_down - sigma) * d
        if sigma_up > 0:
            x = x + noise.fresh() * (s_noise * sigma_up)
    return x
