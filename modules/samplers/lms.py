"""Linear multistep: Adams-Bashforth on the uneven grid of sigmas."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.quadrature import integral, lagrange
from modules.core.sampling import Noise, Option, Query, Sampling, sampler

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "lms",
    label="LMS",
    order=4,
    aliases=("k_lms", "sample_lms", "LMSDiscreteScheduler"),
    options={"order": Option(default=4, low=1, high=4, whole=True)},
    rank=60,
)
def lms(x: Tensor, sigmas: Sequence[float], noise: Noise, *, order: float = 4) -> Sampling:
    """Adams-Bashforth of up to four slopes (Hairer, Norsett, Wanner 1993, III.5) on the probability-flow ODE.

    The first steps have fewer slopes to look back on: the method starts at order 1 and gains one with each step.
    """
    slopes: list[Tensor] = []  # newest first
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield Query(x, sigma, step)
        slopes = [(x - denoised) / sigma, *slopes][: int(order)]
        nodes = [sigmas[step - back] for back in range(len(slopes))]
        for j, slope in enumerate(slopes):
            # Two points are exact for cubics, the most that four nodes give.
            x = x + integral(partial(lagrange, nodes, j), sigma, sigma_next, points=2) * slope
    return x
