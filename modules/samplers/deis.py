"""DEIS (Zhang and Chen 2022, "Fast Sampling of Diffusion Models with Exponential Integrator")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.quadrature import integral, lagrange
from modules.core.sampling import Noise, Option, Query, Sampling, sampler

if TYPE_CHECKING:
    from torch import Tensor

# The variance-preserving diffusion of Song et al. 2021b, whose time the polynomials are drawn over: its sigmas at the
# times 0.001 and 1, as in Karras et al. 2022 (table 1, column "VP") and in what Forge and ComfyUI run.
SIGMA_LOW, SIGMA_HIGH, TIME_LOW = 0.002, 80.0, 0.001
_RISE = 2 * (math.log1p(SIGMA_LOW**2) / TIME_LOW - math.log1p(SIGMA_HIGH**2)) / (TIME_LOW - 1)
_START = math.log1p(SIGMA_HIGH**2) - _RISE / 2
POINTS = 12  # of the quadrature: more change nothing up to 1e-12


@sampler(
    "deis",
    label="DEIS",
    order=3,
    aliases=("sample_deis", "DEIS multistep", "DEISMultistepScheduler"),
    options={"order": Option(default=3, low=1, high=4, whole=True)},
    rank=150,
)
def deis(x: Tensor, sigmas: Sequence[float], noise: Noise, *, order: float = 3) -> Sampling:
    """tAB-DEIS, equations 12 to 15 of the paper: the noise prediction as a polynomial of the diffusion's time.

    The first step has one answer to go by, the second two; the last, to sigma 0, is Euler's.
    """
    slopes: list[Tensor] = []  # newest first
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes][: int(order)]
        times = [_time(sigmas[step - back]) for back in range(len(slopes))]
        for j, slope in enumerate(slopes):
            x = x + _weight(times, j, sigma, sigma_next) * slope
    return x


def _weight(times: Sequence[float], j: int, sigma: float, sigma_next: float) -> float:
    """The paper's C_ij: the integral over sigma of the polynomial in time. Drawn in log sigma, where it is smooth."""

    def integrand(log_sigma: float) -> float:
        return math.exp(log_sigma) * lagrange(times, j, _time(math.exp(log_sigma)))

    return integral(integrand, math.log(sigma), math.log(sigma_next), points=POINTS)


def _time(sigma: float) -> float:
    """The diffusion's time at a noise level: sigma**2 + 1 == exp(_RISE / 2 * t**2 + _START * t)."""
    return (math.sqrt(_START**2 + 2 * _RISE * math.log1p(sigma**2)) - _START) / _RISE
