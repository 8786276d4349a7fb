"""DDIM (Song et al. 2021, "Denoising Diffusion Implicit Models")."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Option, Query, Sampling, sampler
from modules.core.stepping import ancestral_step

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    "ddim",
    label="DDIM",
    order=1,
    schedule="ddim",
    aliases=("k_ddim", "sample_ddim", "DDIMScheduler"),
    options={"eta": Option(default=0.0, low=0.0, high=1.0)},
    rank=210,
)
def ddim(x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 0.0) -> Sampling:
    """Equation 12 of the paper divided by sqrt(alpha_bar): predicted x0, plus the direction pointing to x, plus noise.

    With eta 0 this is Euler's method, differently spaced; with eta 1 it is DDPM's ancestral sampling.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield Query(x, sigma, step)
        direction = (x - denoised) / sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = denoised + sigma_down * direction
        if sigma_up > 0:
            x = x + noise.fresh() * sigma_up
    return x


@sampler(
    "ddim_cfgpp",
    label="DDIM CFG++",
    order=1,
    schedule="ddim",
    cfg_factor=1 / 12.5,
    flow="rescaled",
    aliases=("ddim_cfg++", "k_ddim_cfgpp", "DDIM CFGpp"),
    options={"eta": Option(default=0.0, low=0.0, high=1.0)},
    rank=215,
)
def ddim_cfgpp(x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 0.0) -> Sampling:
    """CFG++ (Chung et al. 2024), algorithm 2: predicted x0 with guidance, but the direction to x without.

    The paper's guidance lies between 0 and 1: as in AUTOMATIC1111 a scale of 12.5 stands for its 1.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised, uncond = yield Query(x, sigma, step, uncond=True)
        direction = (x - uncond) / sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = denoised + sigma_down * direction
        if sigma_up > 0:
            x = x + noise.fresh() * sigma_up
    return x
