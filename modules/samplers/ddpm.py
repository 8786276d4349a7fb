"""DDPM (Ho et al. 2020, "Denoising Diffusion Probabilistic Models")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Query, Sampling, sampler
from modules.core.stepping import S_NOISE

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "ddpm", label="DDPM", order=None, aliases=("sample_ddpm", "DDPMScheduler"), options={"s_noise": S_NOISE}, rank=205
)
def ddpm(x: Tensor, sigmas: Sequence[float], noise: Noise, *, s_noise: float = 1.0) -> Sampling:
    """The mean and the variance of q(x_next | x, x0), equations 6 and 7 of the paper divided by sqrt(alpha_bar).

    The same as Euler a with eta 1, which gets there by a step down and noise.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield Query(x, sigma, step)
        share = (sigma_next / sigma) ** 2
        x = share * x + (1 - share) * denoised
        if sigma_next > 0:
            x = x + noise.fresh() * (s_noise * sigma_next * math.sqrt(1 - share))
    return x
