"""Heun++: Heun's method with a look at the step after the next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Query, Sampling, sampler
from modules.core.stepping import CHURN_OPTIONS, Churn

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "heunpp2",
    label="HeunPP2",
    order=1,
    evaluations=3,
    aliases=("heun++2", "sample_heunpp2", "Heun++"),
    options=CHURN_OPTIONS,
    rank=130,
)
def heunpp2(
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = 1e6,
    s_noise: float = 1.0,
) -> Sampling:
    """The slopes at the step's start, its end and the next step's end, weighed by sigma / (count * sigmas[0]).

    The method of Carzit's "samplers-scheduler", which Forge and ComfyUI offer; without a paper. The later slopes weigh
    much while sigma is large and vanish with it, for which it is of order 1. The last step but one has two slopes, the
    last is Euler's.
    """
    churn = Churn(s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x, sigma_hat = churn.raised(x, sigma, len(sigmas) - 1, noise)
        ahead = [level for level in sigmas[step + 1 : step + 3] if level > 0]
        denoised = yield Query(x, sigma_hat, step)
        first = d = (x - denoised) / sigma_hat
        slope, at, y = first, sigma_hat, x
        for level in ahead:
            y = y + (level - at) * slope
            denoised = yield Query(y, level, step)
            slope, at = (y - denoised) / level, level
            d = d + (slope - first) * (level / ((len(ahead) + 1) * sigmas[0]))
        x = x + (sigma_next - sigma_hat) * d
    return x
