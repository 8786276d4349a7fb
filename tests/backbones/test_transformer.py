"""What flow transformers share, against diffusers' own functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from modules.backbones.transformer import packed, places, shift_of, unpacked, whole_patches
from modules.core.sampling import NoiseLevels, sigmas_for
from modules.samplers.euler import euler
from modules.schedules.uniform import simple


def test_patches_are_ordered_as_in_flux() -> None:
    x = torch.randn(2, 3, 4, 6)
    theirs = FluxPipeline._pack_latents(x, 2, 3, 4, 6)
    assert torch.equal(packed(x), theirs)
    assert torch.equal(unpacked(packed(x), 4, 6), x)
    assert torch.equal(unpacked(theirs, 4, 6), FluxPipeline._unpack_latents(theirs, 32, 48, 8))


def test_places_are_those_of_flux() -> None:
    theirs = FluxPipeline._prepare_latent_image_ids(1, 3, 5, torch.device("cpu"), torch.float32)
    assert torch.equal(places(3, 5, torch.device("cpu")), theirs)


def test_sides_are_filled_up_with_what_is_at_the_other_side() -> None:
    x = torch.randn(1, 2, 3, 5)
    whole = whole_patches(x, 2)
    assert whole.shape == (1, 2, 4, 6)
    assert torch.equal(whole[..., :3, :5], x)
    assert torch.equal(whole[..., 3, :5], x[..., 0, :])
    assert torch.equal(whole[..., :3, 5], x[..., 0])
    assert whole_patches(whole, 2) is whole


@pytest.mark.parametrize("patches", [64, 256, 1000, 4096, 8100])
def test_the_shift_grows_with_the_picture_as_in_diffusers(patches: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0.1, 10).tolist(), mu=calculate_shift(patches))
    levels = NoiseLevels.flow(shift_of(scheduler.config, patches), count=10)
    assert scheduler.sigmas[:-1].flip(0).tolist() == pytest.approx(levels.sigmas, rel=1e-5)


@pytest.mark.parametrize("steps", [2, 8, 20, 50])
def test_the_last_step_begins_where_the_scheduler_has_it_as_in_diffusers(steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist(), mu=calculate_shift(4096))
    levels = NoiseLevels.flow(shift_of(scheduler.config, 4096), terminal=0.02)
    found = sigmas_for(euler, simple, steps, levels)
    assert found == pytest.approx(scheduler.sigmas.tolist(), abs=1e-5)
    assert found[-2] == pytest.approx(0.02)
    assert sigmas_for(euler, simple, 1, levels) == (1.0, 0.0)


def test_a_shift_of_its_own_does_not_depend_on_the_size() -> None:
    assert shift_of({"shift": 3.0}, 1) == shift_of({"shift": 3.0, "use_dynamic_shifting": False}, 4096) == 3.0
    assert shift_of({}, 77) == 1.0
    linear = {"use_dynamic_shifting": True, "time_shift_type": "linear"}
    assert math.exp(shift_of(linear, 4096)) == pytest.approx(shift_of({"use_dynamic_shifting": True}, 4096))
