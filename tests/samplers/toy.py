"""A model in closed form, a noise in closed form, and a driver: what the sampler tests and their references share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from modules.core.sampling import Query, Sampler

SHAPE = (1, 2, 1, 3)
SEED = 12345
STEPS = (1, 2, 3, 5, 10, 20, 50)
SPACINGS = ("normal", "karras", "exponential")
VARIANTS: dict[str, dict[str, float]] = {
    "euler+churn": {"s_churn": 3.0, "s_noise": 1.05, "s_tmin": 0.3},
    "heun+churn": {"s_churn": 3.0, "s_noise": 1.05, "s_tmin": 0.3},
    "dpm2+churn": {"s_churn": 3.0, "s_noise": 1.05, "s_tmin": 0.3},
    "euler_a+eta": {"eta": 0.4, "s_noise": 0.9},
    "dpm2_a+eta": {"eta": 0.4, "s_noise": 0.9},
    "lms+order2": {"order": 2},
    "dpmpp_sde+eta": {"eta": 0.4, "s_noise": 0.9, "r": 0.3},
    "dpmpp_2m_sde+eta": {"eta": 0.4, "s_noise": 0.9},
    "dpmpp_2m_sde+heun": {"heun": 1},
    "dpmpp_2m_sde_heun+eta": {"eta": 0.4, "s_noise": 0.9},
    "dpmpp_2s_a+eta": {"eta": 0.4, "s_noise": 0.9},
    "dpmpp_3m_sde+eta": {"eta": 0.4, "s_noise": 0.9},
    "dpm_fast+eta": {"eta": 0.4, "s_noise": 0.9},
    "dpm_adaptive+eta": {"eta": 0.4, "s_noise": 0.9},
    "dpm_adaptive+order2": {"order": 2, "rtol": 0.02, "atol": 0.001, "h_init": 0.8},
    "dpm_adaptive+pid": {"pcoeff": 0.3, "icoeff": 0.7, "dcoeff": 0.1, "accept_safety": 0.95, "rtol": 0.01},
    "ddim+eta": {"eta": 0.7},
    "tcd+gamma": {"gamma": 0.7},
    "sa_solver+ode": {"eta": 0.0},
    "sa_solver+orders": {"predictor": 2, "corrector": 2, "eta": 0.5, "tau_low": 0.1, "tau_high": 1e6},
    "unipc+bh2": {"bh": 2, "order": 2},
}


def start(sigma: float) -> Tensor:
    """Starting latent at noise level sigma: fixed numbers, float64."""
    return torch.tensor([0.9, -0.4, 1.3, -1.1, 0.2, -0.7], dtype=torch.float64).reshape(SHAPE) * sigma


def denoise(x: Tensor, sigma: float) -> Tensor:
    """The ideal denoiser of data that are +1 or -1, blurred by a standard deviation of 0.5: smooth and not linear."""
    variance = 0.25 + sigma**2
    return (0.25 * x + sigma**2 * torch.tanh(x / variance)) / variance


def unconditional(x: Tensor, sigma: float) -> Tensor:
    """Another denoiser, for the samplers that ask for the answer without guidance, too."""
    return denoise(x, sigma) - 0.3 * sigma / (1 + sigma)


def answer(query: Query) -> Any:
    """What a sampler is sent for its question."""
    denoised = denoise(query.x, query.sigma)
    return (denoised, unconditional(query.x, query.sigma)) if query.uncond else denoised


class ToyNoise:
    """`Noise` without chance: fresh draws are numbered, an increment depends on its two ends alone."""

    def __init__(self) -> None:
        self.draws = 0

    def fresh(self) -> Tensor:
        self.draws += 1
        return _wave(1.7 * self.draws)

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        return _wave(3 * math.log(sigma) + 5 * math.log(sigma_next))


def _wave(phase: float) -> Tensor:
    return torch.sin(phase + torch.arange(math.prod(SHAPE), dtype=torch.float64).reshape(SHAPE)) * math.sqrt(2)


def drive(kind: Sampler, x: Tensor, sigmas: Sequence[float], **options: float) -> tuple[Tensor, list[Query]]:
    """Run a sampler on the toy model: its result, and the questions it asked."""
    sampling = kind.run(x, sigmas, ToyNoise(), **options)
    asked = [next(sampling)]
    while True:
        try:
            asked.append(sampling.send(answer(asked[-1])))
        except StopIteration as end:
            result: Tensor = end.value
            return result, asked
