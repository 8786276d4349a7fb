"""Every sampler on a flow model, against the closed form for Gaussian data.

Data of standard deviation S: at time t the latent has the variance (1 - t)^2 S^2 + t^2, the ideal denoiser is linear,
and the path of dx/dt = (x - x0) / t keeps x over its standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from modules import samplers as samplers_folder
from modules import schedules as schedules_folder
from modules.core.errors import RequestError
from modules.core.flow import check_flow, rescaled_levels, rescales
from modules.core.sampling import NoiseLevels, Sampler, sigmas_for
from modules.diffusion.noise import NoiseChoice, PictureNoise
from modules.engine.picture import Course
from modules.engine.task import course_of

S = 0.5
SHAPE = (1, 4, 64, 64)
SAMPLERS = samplers_folder.registry()
SCHEDULES = schedules_folder.registry()
LEVELS = NoiseLevels.flow(3.0)
ABLE = [name for name, sampler in SAMPLERS.items() if sampler.flow != "never"]


def denoiser(x: Tensor, t: float) -> Tensor:
    return x * ((1 - t) * S**2 / ((1 - t) ** 2 * S**2 + t**2))


def course(sampler: Sampler, steps: int, options: dict[str, float] | None = None, schedule: str = "simple") -> Course:
    chosen = sampler.filled_options(options or {})
    return course_of(sampler, chosen, sigmas_for(sampler, SCHEDULES[schedule], steps, LEVELS), LEVELS)


def drive(way: Course, x: Tensor) -> tuple[Tensor, list[float]]:
    noise = PictureNoise(1, SHAPE, way.inner, torch.device("cpu"), NoiseChoice())
    sampling, asked = way.sample(x, noise), []
    query = next(sampling)
    while True:
        asked.append(query.sigma)
        found = denoiser(query.x, query.sigma)
        try:
            query = sampling.send((found, found) if query.uncond else found)
        except StopIteration as end:
            return end.value, asked


@pytest.mark.parametrize("name", ABLE)
def test_every_sampler_ends_in_the_datas_distribution(name: str) -> None:
    sampler = SAMPLERS[name]
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    way = course(sampler, 140)
    found, asked = drive(way, x)
    assert way.sigmas[0] == 1.0
    assert all(0 < t <= 1 for t in asked)
    # LCM jumps to the mean of what is possible, where a denoiser of Gaussian data has less than the data's variance
    assert float(found.std()) == pytest.approx(S, rel=0.06) or name == "lcm"
    if sampler.deterministic and not rescales(sampler, sampler.filled_options({})):
        assert torch.allclose(found, S * x, atol=0.06)


@pytest.mark.parametrize("name", ["euler", "heun", "dpm2", "ddim", "ddim_cfgpp", "deis", "unipc", "heunpp2"])
def test_more_steps_come_nearer_to_the_path(name: str) -> None:
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    errors = [float((drive(course(SAMPLERS[name], steps), x)[0] - S * x).abs().max()) for steps in (20, 80)]
    assert errors[1] < 0.6 * errors[0]


def test_euler_is_the_same_step_in_both_forms() -> None:
    euler = SAMPLERS["euler"]
    way = course(euler, 12)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    plain, _ = drive(way, x)
    churned = course(euler, 12, {"s_churn": 1e-9})  # so little that only the form differs
    other, _ = drive(churned, x)
    assert churned.inner != churned.sigmas
    assert churned.inner[0] == pytest.approx(999.0)
    assert torch.allclose(plain, other, atol=2e-3)


def test_levels_of_the_other_form_fall_and_end_at_zero() -> None:
    for times in ([1.0, 0.9999, 0.5, 0.0], [1.0, 0.5, 0.0], [0.4, 0.2, 0.0], [1.0, 0.0]):
        levels = rescaled_levels(times)
        assert all(math.isfinite(level) for level in levels)
        assert all(high > low for high, low in pairwise(levels))
        assert levels[-1] == 0


def test_a_start_below_noise_is_taken_as_it_is() -> None:
    """As img2img begins: x0 and noise mixed at a time below 1."""
    generator = torch.Generator().manual_seed(2)
    x0, noise = torch.randn(SHAPE, generator=generator) * S, torch.randn(SHAPE, generator=generator)
    times = (0.6, 0.45, 0.3, 0.15, 0.0)
    x = LEVELS.noised(x0, noise, times[0])
    results: list[Tensor] = []
    for options in ({}, {"s_churn": 1e-9}):
        sampler = SAMPLERS["euler"]
        way = course_of(sampler, sampler.filled_options(options), times, LEVELS)
        results.append(drive(way, x)[0])
    assert torch.allclose(results[0], results[1], atol=1e-4)


def test_what_makes_no_sense_says_so() -> None:
    with pytest.raises(RequestError, match=r"sampler.*TCD.*flow"):
        check_flow(SAMPLERS["tcd"], SCHEDULES["simple"])
    with pytest.raises(RequestError, match=r"schedule.*Align Your Steps"):
        check_flow(SAMPLERS["euler"], SCHEDULES["align_your_steps"])
    check_flow(SAMPLERS["dpmpp_2m"], SCHEDULES["karras"])


@pytest.mark.parametrize("name", [name for name, each in SCHEDULES.items() if each.flow and name != "automatic"])
def test_every_schedule_begins_in_noise_and_ends_at_zero(name: str) -> None:
    sigmas: Sequence[float] = sigmas_for(SAMPLERS["euler"], SCHEDULES[name], 12, LEVELS)
    assert len(sigmas) == 13
    # DDIM's begins a stride below the end, on every model
    assert sigmas[0] == pytest.approx(1.0) if name != "ddim" else sigmas[0] > 0.95
    assert sigmas[-1] == 0


def test_shift_leans_towards_noise() -> None:
    """Equation 23 of Esser et al. 2024, at a shift of 3: half of the time becomes three quarters."""
    assert NoiseLevels.flow(3.0).sigmas[499] == pytest.approx(0.75)
    assert NoiseLevels.flow().sigmas[499] == pytest.approx(0.5)
    assert NoiseLevels.flow(3.0).flows


def test_zero_terminal_snr_as_in_automatic1111() -> None:
    levels = NoiseLevels.scaled_linear()
    found = levels.zero_terminal_snr()
    bars = torch.tensor([1 / (sigma**2 + 1) for sigma in levels.sigmas], dtype=torch.float64).sqrt()
    scaled = (bars - bars[-1]) * (bars[0] / (bars[0] - bars[-1]))
    wanted = ((1 - scaled[:-1] ** 2) / scaled[:-1] ** 2).sqrt()
    assert found.sigma_max == pytest.approx(4518.8, rel=1e-3)
    assert found.sigmas[:-1] == pytest.approx(wanted.tolist(), rel=1e-9)
