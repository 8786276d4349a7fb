"""DPM-Solver++ (Lu et al. 2022b): exponential integrators of the denoised prediction over lambda = -log sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Query, SamplerOption, Sampling, sampler
from modules.core.stepping import ANCESTRAL_OPTIONS, ancestral_step

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "dpmpp_2m",
    label="DPM++ 2M",
    order=2,
    schedule="karras",
    aliases=("k_dpmpp_2m", "sample_dpmpp_2m", "dpm++_2m", "DPMSolver++ 2M"),
    rank=10,
)
def dpmpp_2m(x: Tensor, sigmas: Sequence[float], noise: Noise) -> Sampling:
    """DPM-Solver++(2M), algorithm 2 of the paper; the first and the last step are of order 1."""
    previous: Tensor | None = None
    h_last = 0.0
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        extrapolated = denoised
        if previous is not None:
            extrapolated = denoised + (denoised - previous) * (h / (2 * h_last))
        x = (sigma_next / sigma) * x - math.expm1(-h) * extrapolated
        previous, h_last = denoised, h
    return x


@sampler(
    "dpmpp_sde",
    label="DPM++ SDE",
    order=None,
    evaluations=2,
    schedule="karras",
    aliases=("k_dpmpp_sde", "sample_dpmpp_sde", "dpm++_sde"),
    options={**ANCESTRAL_OPTIONS, "r": SamplerOption(default=0.5, low=0.05, high=0.95)},
    rank=20,
)
def dpmpp_sde(
    x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0, r: float = 0.5
) -> Sampling:
    """DPM-Solver++(S) of second order with ancestral noise on one Brownian path.

    r: where in the step (in lambda) the second question is asked. Both noises of a step come from one path.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        sigma_mid = sigma ** (1 - r) * sigma_next**r
        down, up = ancestral_step(sigma, sigma_mid, eta)
        middle = (down / sigma) * x + (1 - down / sigma) * denoised
        if up > 0:
            middle = middle + noise.between(sigma, sigma_mid) * (s_noise * up)
        denoised_mid = yield Query(middle, sigma_mid, step)

        down, up = ancestral_step(sigma, sigma_next, eta)
        combined = denoised + (denoised_mid - denoised) / (2 * r)
        x = (down / sigma) * x + (1 - down / sigma) * combined
        if up > 0:
            x = x + noise.between(sigma, sigma_next) * (s_noise * up)
    return x


@sampler(
    "dpmpp_2m_sde",
    label="DPM++ 2M SDE",
    order=None,
    schedule="exponential",
    aliases=("k_dpmpp_2m_sde", "sample_dpmpp_2m_sde", "dpm++_2m_sde", "DPMSolver++ 2M SDE"),
    options={**ANCESTRAL_OPTIONS, "heun": SamplerOption(default=0, low=0, high=1, whole=True)},
    rank=30,
)
def dpmpp_2m_sde(
    x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0, heun: float = 0
) -> Sampling:
    """SDE-DPM-Solver++(2M): the multistep solver of the diffusion SDE. eta 0 is DPM++ 2M.

    heun 1 takes the second-order term as Heun's method does, heun 0 as the midpoint method.
    """
    previous: Tensor | None = None
    h_last = 0.0
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        decay = math.exp(-h * eta)
        gain = -math.expm1(-h - h * eta)
        x = (sigma_next / sigma * decay) * x + gain * denoised
        if previous is not None:
            second = 1 - gain / (h + h * eta) if heun else gain / 2
            x = x + (denoised - previous) * (second * h / h_last)
        if eta > 0:
            x = x + noise.between(sigma, sigma_next) * (s_noise * sigma_next * math.sqrt(1 - decay**2))
        previous, h_last = denoised, h
    return x
