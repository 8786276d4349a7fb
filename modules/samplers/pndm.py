"""Pseudo linear multistep methods (Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds").

x = x0 + sigma * n turns the paper's transfer part into a plain step in sigma. The weights are those of an even grid of
sigmas, whatever the grid is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Option, Query, Sampling, sampler

if TYPE_CHECKING:
    from torch import Tensor

# Adams-Bashforth on an even grid (Hairer, Norsett, Wanner 1993, III.1), newest slope first
ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
ORDER = Option(default=4, low=1, high=4, whole=True)


@sampler("plms", label="PLMS", order=2, schedule="ddim", aliases=("k_plms", "PNDM", "PNDMScheduler"), rank=220)
def plms(x: Tensor, sigmas: Sequence[float], noise: Noise) -> Sampling:
    """PLMS as in Stable Diffusion's first code: four noise predictions; the first step is Heun's, and asks twice."""
    slopes: list[Tensor] = []  # newest first
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield Query(x, sigma, step)
        slopes = [(x - denoised) / sigma, *slopes][:4]
        d = _combined(slopes)
        if step == 0 and sigma_next > 0:
            predicted = x + (sigma_next - sigma) * d
            denoised = yield Query(predicted, sigma_next, step)
            d = (d + (predicted - denoised) / sigma_next) / 2
        x = x + (sigma_next - sigma) * d
    return x


@sampler(
    "ipndm", label="IPNDM", order=2, aliases=("sample_ipndm", "IPNDMScheduler"), options={"order": ORDER}, rank=140
)
def ipndm(x: Tensor, sigmas: Sequence[float], noise: Noise, *, order: float = 4) -> Sampling:
    """Improved PNDM (Zhang and Chen 2022, DEIS, appendix H): the first steps are of lower order and ask once.

    The last step goes to the prediction itself.
    """
    slopes: list[Tensor] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes][: int(order)]
        x = x + (sigma_next - sigma) * _combined(slopes)
    return x


@sampler("ipndm_v", label="IPNDM_V", order=2, aliases=("sample_ipndm_v",), options={"order": ORDER}, rank=145)
def ipndm_v(x: Tensor, sigmas: Sequence[float], noise: Noise, *, order: float = 4) -> Sampling:
    """IPNDM with weights for the uneven grid, as in the toolbox of Zhou et al. 2024 (AMED-Solver), Forge and ComfyUI.

    Three and four slopes are weighed as published there, which is not quite Adams-Bashforth: pictures depend on it. The
    exact method on every grid is LMS. The last step goes to the prediction itself.
    """
    slopes: list[Tensor] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes][: int(order)]
        lengths = [sigmas[step + 1 - back] - sigmas[step - back] for back in range(len(slopes))]
        x = x + (sigma_next - sigma) * _combined(slopes, _uneven_weights(lengths))
    return x


def _combined(slopes: Sequence[Tensor], weights: Sequence[float] = ()) -> Tensor:
    """The slopes' weighted sum; without weights those of Adams-Bashforth."""
    first, *rest = weights or ADAMS[len(slopes) - 1]
    total = first * slopes[0]
    for weight, slope in zip(rest, slopes[1:], strict=True):
        total = total + weight * slope
    return total


def _uneven_weights(lengths: Sequence[float]) -> list[float]:
    """The published weights of IPNDM_V, newest slope first. lengths: of this step, of the last, of the one before.

    On an even grid those of three slopes are Adams-Bashforth's, those of four (57, -65, 43, -11) / 24 in place of
    (55, -59, 37, -9) / 24.
    """
    h = lengths[0]
    weights = [1.0, 0.0, 0.0, 0.0]
    if len(lengths) > 1:
        a = lengths[1]
        weights = _added(weights, h / (2 * a), (1, -1))
    if len(lengths) > 2:
        b = lengths[2]
        bend = (1 - h**2 / (3 * a * (a + b))) / 2
        weights = _added(weights, bend, (1, -1 - a / b, a / b))
    if len(lengths) > 3:
        c = lengths[3]
        twist = 1 / 2 - h / (6 * (h + a)) + (1 - h / (2 * (h + a))) * h / (6 * (h + a + b))
        twist *= h * (h + a) * (h + a + b) / (a * (a + b) * (a + b + c))
        q = a * (a + b) / (b * (b + c))
        weights = _added(weights, twist, (1, -1 - a / b - q, a / b + q * (1 + b / c), -q * a / b))
    return weights[: len(lengths)]


def _added(weights: Sequence[float], factor: float, terms: Sequence[float]) -> list[float]:
    padded = (*terms, *([0.0] * (len(weights) - len(terms))))
    return [weight + factor * term for weight, term in zip(weights, padded, strict=True)]
