"""Trajectory consistency sampling (Zheng et al. 2024, "Trajectory Consistency Distillation")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, NoiseLevels, Option, Query, Sampling, sampler

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "tcd",
    label="TCD",
    order=None,
    schedule="sgm_uniform",
    flow="never",
    aliases=("sample_tcd", "TCDScheduler"),
    options={"gamma": Option(default=0.3, low=0.0, high=1.0)},
    rank=240,
)
def tcd(x: Tensor, sigmas: Sequence[float], noise: Noise, *, gamma: float = 0.3) -> Sampling:
    """Strategic stochastic sampling (algorithm 4 of the paper): past the next level, to (1 - gamma) of its time, and
    noise back up to it.

    For models distilled for it (TCD-LoRA, Hyper-SD), in 2 to 8 steps. gamma 0 is DDIM, gamma 1 is LCM but for the
    smallest trained level, at which the times begin. Times are those of Stable Diffusion 1's and XL's training.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        levels = _trained()
        past = levels.sigma((1 - gamma) * levels.timestep(sigma_next))
        past = sigma_next if gamma == 0 else min(past, sigma_next)
        x = denoised + (past / sigma) * (x - denoised)
        if past < sigma_next:
            x = x + noise.fresh() * math.sqrt(sigma_next**2 - past**2)
    return x


@cache
def _trained() -> NoiseLevels:
    return NoiseLevels.scaled_linear()
