"""ER-SDE (Cui et al. 2023, "Elucidating the solution space of extended reverse-time SDE for diffusion models")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.quadrature import integral
from modules.core.sampling import Noise, Option, Query, Sampling, sampler
from modules.core.stepping import S_NOISE

if TYPE_CHECKING:
    from torch import Tensor

POINTS = 24  # of the quadrature: more change nothing up to 1e-12


@sampler(
    "er_sde",
    label="ER-SDE",
    order=None,
    aliases=("ER SDE", "sample_er_sde", "ER-SDE-Solver"),
    options={"s_noise": S_NOISE, "order": Option(default=3, low=1, high=3, whole=True)},
    rank=250,
)
def er_sde(x: Tensor, sigmas: Sequence[float], noise: Noise, *, s_noise: float = 1.0, order: float = 3) -> Sampling:
    """ER-SDE-Solver-3 in the variance-exploding form (algorithm 3 of the paper), with its noise scale ER SDE 5.

    order: how many answers are looked at. The first step is of order 1, the second of order 2.
    """
    past: list[tuple[float, Tensor]] = []  # (sigma, denoised) of the last step
    last_slope: tuple[float, Tensor] | None = None  # the sigma before its step's, and the slope
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        h, scale = sigma_next - sigma, _scale(sigma_next)
        share = scale / _scale(sigma)
        x = share * x + (1 - share) * denoised
        if past and order >= 2:
            sigma_last, denoised_last = past[0]
            slope = (denoised - denoised_last) / (sigma - sigma_last)
            x = x + (h + scale * _moment(0, sigma, sigma_next)) * slope
            if last_slope is not None and order >= 3:
                bend = (slope - last_slope[1]) * (2 / (sigma - last_slope[0]))
                x = x + (h**2 / 2 + scale * _moment(1, sigma, sigma_next)) * bend
            last_slope = (sigma_last, slope)
        variance = sigma_next**2 - (sigma * share) ** 2
        if variance > 0:
            x = x + noise.fresh() * (s_noise * math.sqrt(variance))
        past = [(sigma, denoised)]
    return x


def _scale(sigma: float) -> float:
    """The paper's phi(sigma), which says how much noise is put in: ER SDE 5 of its table."""
    return sigma * (math.exp(sigma**0.3) + 10)


def _moment(power: int, sigma: float, sigma_next: float) -> float:
    """The integral of (s - sigma)**power / phi(s) over s from sigma_next to sigma, drawn in log s."""

    def integrand(log_s: float) -> float:
        s = math.exp(log_s)
        return s * (s - sigma) ** power / _scale(s)

    return integral(integrand, math.log(sigma_next), math.log(sigma), points=POINTS)
