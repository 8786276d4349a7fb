"""DPM-Solver++ (Lu et al. 2022b): exponential integrators of the denoised prediction over lambda = -log sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Option, Query, Sampling, sampler
from modules.core.stepping import ANCESTRAL_OPTIONS, ancestral_step

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "dpmpp_2m",
    label="DPM++ 2M",
    order=2,
    schedule="karras",
    aliases=("k_dpmpp_2m", "sample_dpmpp_2m", "dpm++_2m", "DPMSolver++ 2M", "DPMSolverMultistepScheduler"),
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
    aliases=("k_dpmpp_sde", "sample_dpmpp_sde", "dpmpp_sde_gpu", "dpm++_sde", "DPMSolverSDEScheduler"),
    options={**ANCESTRAL_OPTIONS, "r": Option(default=0.5, low=0.05, high=0.95)},
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
    aliases=("k_dpmpp_2m_sde", "sample_dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "dpm++_2m_sde", "DPMSolver++ 2M SDE"),
    options={**ANCESTRAL_OPTIONS, "heun": Option(default=0, low=0, high=1, whole=True)},
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


@sampler(
    "dpmpp_2m_sde_heun",
    label="DPM++ 2M SDE Heun",
    order=None,
    schedule="exponential",
    aliases=("k_dpmpp_2m_sde_heun", "sample_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "dpm++_2m_sde_heun"),
    options=ANCESTRAL_OPTIONS,
    rank=32,
)
def dpmpp_2m_sde_heun(
    x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """SDE-DPM-Solver++(2M) with the second-order term of Heun's method."""
    return (yield from dpmpp_2m_sde.run(x, sigmas, noise, eta=eta, s_noise=s_noise, heun=1))


@sampler(
    "dpmpp_2s_a",
    label="DPM++ 2S a",
    names_ensd=True,
    order=None,
    evaluations=2,
    schedule="karras",
    aliases=("k_dpmpp_2s_a", "dpmpp_2s_ancestral", "sample_dpmpp_2s_ancestral", "dpm++_2s_a"),
    options=ANCESTRAL_OPTIONS,
    rank=34,
)
def dpmpp_2s_ancestral(
    x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """DPM-Solver++(2S), algorithm 1 of the paper, down past the next noise level, then fresh noise back up to it."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        down, up = ancestral_step(sigma, sigma_next, eta)
        if down == 0:
            return denoised
        sigma_mid = math.sqrt(sigma * down)
        middle = (sigma_mid / sigma) * x + (1 - sigma_mid / sigma) * denoised
        denoised = yield Query(middle, sigma_mid, step)
        x = (down / sigma) * x + (1 - down / sigma) * denoised
        if up > 0:
            x = x + noise.fresh() * (s_noise * up)
    return x


@sampler(
    "dpmpp_3m_sde",
    label="DPM++ 3M SDE",
    order=None,
    schedule="exponential",
    drop_penultimate=True,
    aliases=("k_dpmpp_3m_sde", "sample_dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "dpm++_3m_sde"),
    options=ANCESTRAL_OPTIONS,
    rank=36,
)
def dpmpp_3m_sde(
    x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """SDE-DPM-Solver++ with three answers to look back on: their quadratic in lambda takes the place of the line.

    phi_2 and phi_3 are the exponential integrators' functions (Hochbruck and Ostermann 2010) of h * (1 + eta).
    """
    past: list[tuple[float, Tensor]] = []  # (h, denoised) of the last steps, newest first
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        h_eta = h * (1 + eta)
        x = math.exp(-h_eta) * x - math.expm1(-h_eta) * denoised
        phi_2 = math.expm1(-h_eta) / h_eta + 1
        if past:
            slope = (denoised - past[0][1]) * (h / past[0][0])
            if len(past) == 2:
                r0, r1 = past[0][0] / h, past[1][0] / h
                bend = (slope - (past[0][1] - past[1][1]) / r1) / (r0 + r1)
                x = x + phi_2 * (slope + bend * r0) - (phi_2 / h_eta - 0.5) * bend
            else:
                x = x + phi_2 * slope
        if eta > 0:
            x = x + noise.between(sigma, sigma_next) * (s_noise * sigma_next * math.sqrt(-math.expm1(-2 * h * eta)))
        past = [(h, denoised), *past][:2]
    return x
