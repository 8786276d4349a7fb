"""Restart sampling (Xu et al. 2023, "Restart Sampling for Improving Generative Processes")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Query, Sampling, sampler
from modules.core.stepping import S_NOISE, karras_levels

if TYPE_CHECKING:
    from torch import Tensor

LOW, HIGH = 0.1, 2.0  # the noise levels between which it goes back and down again


@sampler(
    "restart",
    label="Restart",
    order=None,
    evaluations=2,
    schedule="karras",
    own_levels=True,
    aliases=("k_restart", "restart_sampler", "sample_restart"),
    options={"s_noise": S_NOISE},
    rank=120,
)
def restart(x: Tensor, sigmas: Sequence[float], noise: Noise, *, s_noise: float = 1.0) -> Sampling:
    """Heun's steps; near sigma 0.1 noise back up to sigma 2, from where the steps go down again.

    As in AUTOMATIC1111: with less than 20 steps there is no way back; with 20 it takes 9 of them, with 36 and more
    twice a quarter, and the levels are Karras's between the schedule's ends.
    """
    at = sigmas[0]
    for step, (sigma, sigma_next) in enumerate(_path(sigmas)):
        if sigma > at:
            x = x + noise.fresh() * (s_noise * math.sqrt(sigma**2 - at**2))
        denoised = yield Query(x, sigma, step)
        d = (x - denoised) / sigma
        if sigma_next > 0:
            predicted = x + (sigma_next - sigma) * d
            denoised = yield Query(predicted, sigma_next, step)
            d = (d + (predicted - denoised) / sigma_next) / 2
        x = x + (sigma_next - sigma) * d
        at = sigma_next
    return x


def _path(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """The steps in their order, as many as the schedule has: each from one noise level to a lower one."""
    steps = len(sigmas) - 1
    if steps < 20:
        return list(pairwise(sigmas))
    times, back = (2, steps // 4) if steps >= 36 else (1, 9)
    levels = [*karras_levels(steps - back * times, sigmas[-2], sigmas[0]), 0.0]
    low, high = _nearest(levels, LOW), _nearest(levels, HIGH)
    path = list(pairwise(levels))
    if not high < low:  # a range without these levels
        return path
    again = list(pairwise(karras_levels(back + 1, levels[low], levels[high])))
    return [*path[:low], *again * times, *path[low:]]


def _nearest(levels: Sequence[float], sigma: float) -> int:
    return min(range(len(levels)), key=lambda index: abs(levels[index] - sigma))
