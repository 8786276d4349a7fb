"""Linear multistep: Adams-Bashforth on the uneven grid of sigmas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Query, SamplerOption, Sampling, sampler

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "lms",
    label="LMS",
    order=4,
    aliases=("k_lms", "sample_lms"),
    options={"order": SamplerOption(default=4, low=1, high=4, whole=True)},
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
        for weight, slope in zip(_weights(nodes, sigma, sigma_next), slopes, strict=True):
            x = x + weight * slope
    return x


def _weights(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """The integrals over [start, end] of the Lagrange polynomials through `nodes`.

    Gauss-Legendre quadrature with two points is exact for cubics, the most that four nodes give.
    """
    middle, half = (start + end) / 2, (end - start) / 2
    points = (middle - half / math.sqrt(3), middle + half / math.sqrt(3))
    return [half * sum(_lagrange(nodes, j, point) for point in points) for j in range(len(nodes))]


def _lagrange(nodes: Sequence[float], j: int, at: float) -> float:
    return math.prod((at - node) / (nodes[j] - node) for k, node in enumerate(nodes) if k != j)
