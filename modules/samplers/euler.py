"""Euler's method on the probability-flow ODE, plain and ancestral."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Query, Sampling, sampler
from modules.core.stepping import ANCESTRAL_OPTIONS, CHURN_OPTIONS, Churn, ancestral_step

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "euler",
    label="Euler",
    order=1,
    aliases=("k_euler", "sample_euler", "euler discrete", "EulerDiscreteScheduler"),
    options=CHURN_OPTIONS,
    rank=50,
)
def euler(
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = 1e6,
    s_noise: float = 1.0,
) -> Sampling:
    """Euler steps of Karras et al. 2022, algorithm 2 without its second-order correction."""
    churn = Churn(s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x, sigma_hat = churn.raised(x, sigma, len(sigmas) - 1, noise)
        denoised = yield Query(x, sigma_hat, step)
        d = (x - denoised) / sigma_hat
        x = x + (sigma_next - sigma_hat) * d
    return x


@sampler(
    "euler_a",
    label="Euler a",
    names_ensd=True,
    order=None,
    aliases=(
        "k_euler_a",
        "k_euler_ancestral",
        "sample_euler_ancestral",
        "euler_ancestral",
        "Euler ancestral discrete",
        "EulerAncestralDiscreteScheduler",
    ),
    options=ANCESTRAL_OPTIONS,
    rank=40,
)
def euler_ancestral(
    x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """Euler steps down past the next noise level, then fresh noise back up to it (Ho et al. 2020 at eta 1)."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield Query(x, sigma, step)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        d = (x - denoised) / sigma
        x = x + (sigma_down - sigma) * d
        if sigma_up > 0:
            x = x + noise.fresh() * (s_noise * sigma_up)
    return x
