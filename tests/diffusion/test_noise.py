"""A picture's noise: the streams people know from other programs, and nothing of its neighbours."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from modules import schedules
from modules.core.sampling import Noise, NoiseLevels
from modules.diffusion.noise import PictureNoise

BROWNIAN: dict[str, Any] = json.loads(
    Path(__file__).parents[1].joinpath("samplers", "reference.json").read_text(encoding="utf-8")
)["brownian"]
SIGMAS = (14.614642, 7.3, 2.0, 1.5, 0.31, 0.0291675, 0.0)
SHAPE = (1, 4, 8, 8)
SCHEDULES = schedules.registry()


def test_starting_noise_and_fresh_draws_are_one_stream() -> None:
    generator = torch.Generator("cpu").manual_seed(99)
    expected = [torch.randn(4, 8, 8, generator=generator) for _ in range(3)]
    noise = PictureNoise(99, SHAPE, SIGMAS)
    assert torch.equal(noise.initial()[0], expected[0])
    assert torch.equal(noise.initial()[0], expected[0])
    assert torch.equal(noise.fresh()[0], expected[1])
    assert torch.equal(noise.fresh()[0], expected[2])
    assert noise.initial().shape == SHAPE
    assert noise.fresh().dtype == torch.float32


def test_fresh_before_initial_changes_nothing() -> None:
    early, late = PictureNoise(7, SHAPE, SIGMAS), PictureNoise(7, SHAPE, SIGMAS)
    first = early.fresh()
    assert torch.equal(late.initial(), early.initial())
    assert torch.equal(late.fresh(), first)


def test_starting_noise_can_be_changed_by_its_owner() -> None:
    noise = PictureNoise(7, SHAPE, SIGMAS)
    before = noise.initial()
    noise.initial().mul_(0)
    assert torch.equal(noise.initial(), before)


def test_brownian_increments_equal_k_diffusions() -> None:
    noise = PictureNoise(BROWNIAN["seed"], (1, 2, 2, 2), SIGMAS)
    assert [min(SIGMAS[:-1]), max(SIGMAS)] == BROWNIAN["range"]
    for sigma, following, values in BROWNIAN["steps"]:
        expected = torch.tensor(values).reshape(1, 2, 2, 2)
        torch.testing.assert_close(noise.between(sigma, following), expected, rtol=0, atol=1e-6)


def test_brownian_path_is_one_path() -> None:
    noise = PictureNoise(3, SHAPE, SIGMAS)
    halves = noise.between(14.0, 9.0) * 5**0.5 + noise.between(9.0, 2.0) * 7**0.5
    torch.testing.assert_close(noise.between(14.0, 2.0) * 12**0.5, halves, rtol=0, atol=1e-5)
    assert torch.equal(noise.between(9.0, 2.0), noise.between(9.0, 2.0))
    assert torch.equal(noise.between(2.0, 9.0), -noise.between(9.0, 2.0))
    # Whatever else was asked before.
    torch.testing.assert_close(PictureNoise(3, SHAPE, SIGMAS).between(9.0, 2.0), noise.between(9.0, 2.0))


def test_increments_have_unit_variance() -> None:
    noise = PictureNoise(11, (1, 4, 64, 64), SIGMAS)
    for sigma, following in ((14.0, 2.0), (2.0, 1.9), (0.31, 0.03)):
        increment = noise.between(sigma, following)
        assert float(increment.std()) == pytest.approx(1, abs=0.03)
        assert float(increment.mean()) == pytest.approx(0, abs=0.03)


def test_pictures_do_not_hear_each_other() -> None:
    def stream(noise: Noise) -> list[torch.Tensor]:
        return [noise.fresh(), noise.between(14.0, 2.0), noise.fresh(), noise.between(2.0, 0.5)]

    alone = [stream(PictureNoise(seed, SHAPE, SIGMAS)) for seed in (1, 2)]
    torch.manual_seed(0)
    together = [PictureNoise(seed, SHAPE, SIGMAS) for seed in (1, 2)]
    mixed = [[noise.fresh() for noise in together], [noise.between(14.0, 2.0) for noise in together]]
    torch.rand(3)
    mixed += [[noise.fresh() for noise in together], [noise.between(2.0, 0.5) for noise in together]]
    for index in (0, 1):
        for expected, got in zip(alone[index], mixed, strict=True):
            assert torch.equal(expected, got[index])


@pytest.mark.parametrize("spacing", [name for name in SCHEDULES if name != "automatic"])
def test_path_reaches_over_every_schedule(spacing: str) -> None:
    """torchsde warns, and warnings are errors, where a question lies a rounding beyond the path's ends."""
    for steps in (2, 3, 20):
        sigmas = SCHEDULES[spacing].run(steps, NoiseLevels.scaled_linear())
        noise = PictureNoise(5, (1, 1, 2, 2), sigmas)
        for sigma, following in pairwise(sigmas[:-1]):
            middle = (sigma * following) ** 0.5
            for increment in (noise.between(sigma, middle), noise.between(sigma, following)):
                assert bool(torch.isfinite(increment).all())
                assert bool((increment != 0).any())


def test_number_of_threads_is_given_back() -> None:
    before = torch.get_num_threads()
    PictureNoise(1, SHAPE, SIGMAS).between(14.0, 2.0)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**64 - 1])
def test_seeds_at_the_ends_of_their_range(seed: int) -> None:
    noise = PictureNoise(seed, (1, 1, 2, 2), SIGMAS)
    assert bool(torch.isfinite(noise.fresh() + noise.between(3.0, 2.0)).all())


def test_one_step_needs_no_path() -> None:
    assert PictureNoise(1, SHAPE, (14.6, 0.0)).fresh().shape == SHAPE
