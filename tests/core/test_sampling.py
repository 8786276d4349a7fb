from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modules.core.sampling import Noise, NoiseLevels, Query, Sampler, Sampling, Schedule, sampler, schedule, sigmas_for

LEVELS = NoiseLevels.scaled_linear()


def answer_once(x: Tensor, sigmas: Sequence[float], noise: Noise) -> Sampling:
    denoised: Tensor = yield Query(x, sigmas[0], 0)
    return denoised


def test_stable_diffusions_levels() -> None:
    assert len(LEVELS.sigmas) == 1000
    assert LEVELS.sigma_min == pytest.approx(0.0291675, abs=1e-6)
    assert LEVELS.sigma_max == pytest.approx(14.614642, abs=1e-5)
    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    np.testing.assert_allclose(LEVELS.sigmas, np.sqrt((1 - alphas) / alphas), rtol=1e-12)


@given(st.floats(0, 999))
def test_timestep_is_the_inverse_of_sigma(t: float) -> None:
    assert LEVELS.timestep(LEVELS.sigma(t)) == pytest.approx(t, abs=1e-8)


@given(st.floats(LEVELS.sigma_min, LEVELS.sigma_max))
def test_sigma_is_the_inverse_of_timestep(sigma: float) -> None:
    assert LEVELS.sigma(LEVELS.timestep(sigma)) == pytest.approx(sigma, rel=1e-12)


@pytest.mark.parametrize("t", [0, 1, 499, 998, 999])
def test_whole_timesteps_are_the_trained_ones(t: int) -> None:
    assert LEVELS.sigma(t) == pytest.approx(LEVELS.sigmas[t], rel=1e-14)
    assert LEVELS.timestep(LEVELS.sigmas[t]) == pytest.approx(t, abs=1e-9)


def test_interpolates_in_log_sigma() -> None:
    assert LEVELS.sigma(500.25) == pytest.approx(LEVELS.sigmas[500] ** 0.75 * LEVELS.sigmas[501] ** 0.25, rel=1e-12)


@given(st.floats(-10, 2000), st.floats(0, 1000))
def test_clamped_to_the_trained_range(t: float, sigma: float) -> None:
    assert LEVELS.sigma_min * (1 - 1e-12) <= LEVELS.sigma(t) <= LEVELS.sigma_max * (1 + 1e-12)
    assert 0 <= LEVELS.timestep(sigma) <= 999


def test_decorators_describe() -> None:
    mine = sampler("mine", label="Mine", order=2, evaluations=2, aliases=("my",))(answer_once)

    @schedule("half", label="Half", rank=3)
    def half(steps: int, levels: NoiseLevels) -> list[float]:
        return [levels.sigma_max * 0.5**index for index in range(steps)] + [0.0]

    assert isinstance(mine, Sampler)
    assert (mine.name, mine.deterministic, mine.evaluations, mine.schedule) == ("mine", True, 2, "normal")
    assert isinstance(half, Schedule)
    assert sigmas_for(mine, half, 2, LEVELS) == (LEVELS.sigma_max, LEVELS.sigma_max / 2, 0.0)


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_dropping_the_penultimate_sigma_keeps_the_number_of_steps(steps: int) -> None:
    dropping = Sampler(name="d", label="D", run=answer_once, order=None, drop_penultimate=True)
    halves = Schedule(name="h", label="H", run=lambda n, levels: [0.5**index for index in range(n)] + [0.0])
    sigmas = sigmas_for(dropping, halves, steps, LEVELS)
    assert sigmas == (*(0.5**index for index in range(steps)), 0.0)
