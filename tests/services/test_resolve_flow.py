"""Flow models: their own inputs, what Automatic means for them, and what makes no sense with them."""

from __future__ import annotations

from typing import Any

import pytest

from modules.core.errors import RequestError
from modules.core.generation import GenerationPlan, plan_json
from tests.fakes.models import FLUX, SCHNELL, STARTER, FakeModels, resolver


def plan(**values: Any) -> GenerationPlan:
    return resolver(FakeModels(FLUX, SCHNELL, STARTER)).resolve(values)


def test_a_flow_model_has_its_own_defaults() -> None:
    dev = plan(checkpoint="flux1-dev")
    assert (dev.width, dev.height, dev.cfg_scale, dev.distilled_cfg_scale, dev.shift) == (1024, 1024, 1.0, 3.5, None)
    assert (dev.family, dev.prediction, dev.variant, dev.schedule) == ("flux", "flow", "dev", "simple")
    schnell = plan(checkpoint="schnell")
    assert (schnell.steps, schnell.distilled_cfg_scale, schnell.shift) == (4, None, 1.0)
    asked = plan(checkpoint="flux1-dev", distilled_cfg_scale="2.5", shift=3)
    assert (asked.distilled_cfg_scale, asked.shift) == (2.5, 3.0)
    for each in (dev, schnell, asked):
        assert resolver(FakeModels(FLUX, SCHNELL)).resolve(plan_json(each)) == each


@pytest.mark.parametrize(
    ("values", "field", "accepted"),
    [
        ({"checkpoint": "starter", "distilled_cfg_scale": 3.5}, "distilled_cfg_scale", "Flux.1 dev"),
        ({"checkpoint": "schnell", "distilled_cfg_scale": 3.5}, "distilled_cfg_scale", "Flux.1 dev"),
        ({"checkpoint": "starter", "shift": 3}, "shift", "Stable Diffusion 3, Flux"),
        ({"checkpoint": "schnell", "shift": 0}, "shift", "a number from 0.1"),
        ({"checkpoint": "flux1-dev", "sampler": "TCD"}, "sampler", "Euler"),
        ({"checkpoint": "flux1-dev", "schedule": "Align Your Steps"}, "schedule", "Simple"),
        ({"checkpoint": "flux1-dev", "sampler": "Euler Align Your Steps"}, "schedule", "Simple"),
    ],
)
def test_what_a_model_does_not_take_is_named(values: dict[str, Any], field: str, accepted: str) -> None:
    with pytest.raises(RequestError) as refused:
        plan(**values)
    assert refused.value.field == field
    assert accepted in refused.value.accepted
    if field == "distilled_cfg_scale":
        assert values["checkpoint"] in str(refused.value)


def test_automatic_is_simple_for_flow_models_and_the_samplers_own_for_others() -> None:
    for schedule in ({}, {"schedule": "Automatic"}):
        assert plan(checkpoint="flux1-dev", sampler="DPM++ 2M", **schedule).schedule == "simple"
        assert plan(checkpoint="starter", sampler="DPM++ 2M", **schedule).schedule == "karras"
    assert plan(checkpoint="flux1-dev", sampler="DPM++ 2M Karras").schedule == "karras"


def test_a_plan_keeps_what_its_checkpoint_was_taken_as() -> None:
    values = plan_json(plan(checkpoint="starter"))
    assert (values["prediction"], values["variant"]) == ("epsilon", "")
    again = plan(**{**values, "family": "sdxl", "prediction": "v", "variant": "inpaint"})
    assert (again.family, again.prediction, again.variant) == ("sdxl", "v", "inpaint")
    assert plan(**{**values, "family": "of another version"}).family == "sd1"
    old = {name: value for name, value in values.items() if name not in ("prediction", "variant", "shift")}
    assert plan_json(plan(**old)) == values
    with pytest.raises(RequestError, match="made for other models than this flow model"):
        plan(**{**values, "prediction": "flow", "sampler": "tcd"})
