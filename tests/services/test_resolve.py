"""Bad inputs end in an error that names the field; good ones in the right plan."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modules.core.checkpoint import ModelInfo
from modules.core.errors import CheckpointMissing, InferenzError, RequestError, UnsupportedCheckpoint
from modules.core.generation import MAX_SEED, plan_json
from tests.fakes.models import OTHER, STARTER, FakeModels, resolver

BAD: list[tuple[dict[str, Any], str]] = [
    ({"width": 0}, "width"),
    ({"width": -64}, "width"),
    ({"width": 63}, "width"),
    ({"width": 65}, "width"),
    ({"width": 100}, "width"),
    ({"width": 4104}, "width"),
    ({"width": 10**30}, "width"),
    ({"width": 512.5}, "width"),
    ({"width": "wide"}, "width"),
    ({"width": float("nan")}, "width"),
    ({"width": [512]}, "width"),
    ({"height": 0}, "height"),
    ({"height": 56}, "height"),
    ({"height": "512px"}, "height"),
    ({"height": float("inf")}, "height"),
    ({"width": 4096, "height": 4096}, "width"),
    ({"width": 2048, "height": 2048, "batch_size": 16}, "batch_size"),
    ({"steps": 0}, "steps"),
    ({"steps": -1}, "steps"),
    ({"steps": 151}, "steps"),
    ({"steps": 1e300}, "steps"),
    ({"steps": 20.5}, "steps"),
    ({"steps": ""}, "steps"),
    ({"steps": {}}, "steps"),
    ({"seed": -2}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"seed": 10**5000}, "seed"),
    ({"seed": "banana"}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"seed": MAX_SEED, "batch_count": 2}, "seed"),
    ({"cfg_scale": 0.5}, "cfg_scale"),
    ({"cfg_scale": 31}, "cfg_scale"),
    ({"cfg_scale": float("nan")}, "cfg_scale"),
    ({"cfg_scale": float("inf")}, "cfg_scale"),
    ({"cfg_scale": "seven"}, "cfg_scale"),
    ({"clip_skip": 0}, "clip_skip"),
    ({"clip_skip": 13}, "clip_skip"),
    ({"batch_count": 0}, "batch_count"),
    ({"batch_count": 101}, "batch_count"),
    ({"batch_count": 100, "batch_size": 5}, "batch_count"),
    ({"batch_size": 17}, "batch_size"),
    ({"batch_size": None}, "batch_size"),
    ({"sampler": "Eular"}, "sampler"),
    ({"sampler": ""}, "sampler"),
    ({"sampler": "Karras"}, "sampler"),
    ({"sampler": "Euler a; rm -rf /"}, "sampler"),
    ({"sampler": "x" * 401}, "sampler"),
    ({"sampler": 5}, "sampler"),
    ({"sampler": "Eul\0er"}, "sampler"),
    ({"schedule": "Karas"}, "schedule"),
    ({"schedule": ""}, "schedule"),
    ({"sampler": "DPM++ 2M Karras", "schedule": "Normal"}, "schedule"),
    ({"prompt": "a" * 100_001}, "prompt"),
    ({"prompt": "a\0b"}, "prompt"),
    ({"prompt": "bell \a"}, "prompt"),
    ({"prompt": "\x1b[31mred"}, "prompt"),
    ({"prompt": "half \ud83c of an apple"}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"negative_prompt": "x" * 200_000}, "negative_prompt"),
    ({"negative_prompt": "\0"}, "negative_prompt"),
    ({"checkpoint": "sta\0rter"}, "checkpoint"),
    ({"checkpoint": "y" * 401}, "checkpoint"),
    ({"vae": "None", "checkpoint": "photo"}, "vae"),
    ({"strict": "perhaps"}, "strict"),
    ({"stepz": 20}, "stepz"),
    ({"prompt": "a", "__class__": "x"}, "__class__"),
    ({"schema": 2}, "schema"),
    ({"schema": 1}, "checkpoint"),
]


@pytest.mark.parametrize(("values", "field"), BAD, ids=[f"{n}-{field}" for n, (_, field) in enumerate(BAD)])
def test_a_bad_input_is_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        resolver().resolve(values)
    assert refused.value.field == field
    assert refused.value.accepted
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("values", [[], "a red apple", None, 5, {1: 2}])
def test_what_is_no_object_is_refused(values: Any) -> None:
    with pytest.raises(RequestError, match="not a JSON object"):
        resolver().resolve(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"width": 128, "height": 128, "steps": 12, "cfg_scale": 5.0, "sampler": "euler", "schedule": "normal"}),
        ({"steps": "20", "cfg_scale": "7.5"}, {"steps": 20, "cfg_scale": 7.5}),
        ({"width": 64, "height": 4096}, {"width": 64, "height": 4096}),
        ({"seed": 7, "batch_count": 2, "batch_size": 2}, {"seeds": (7, 8, 9, 10), "batch_size": 2}),
        ({"seed": MAX_SEED}, {"seeds": (MAX_SEED,)}),
        ({}, {"seeds": (4711,)}),
        ({"sampler": "Euler a"}, {"sampler": "euler_a", "options": {"eta": 1.0}}),
        ({"sampler": "EULER_A"}, {"sampler": "euler_a"}),
        ({"sampler": "k_euler"}, {"sampler": "euler"}),
        ({"sampler": "DPM++ 2M"}, {"sampler": "dpmpp_2m", "schedule": "karras"}),
        ({"sampler": "DPM++ 2M", "schedule": "Automatic"}, {"schedule": "karras"}),
        ({"sampler": "DPM++ 2M Karras"}, {"sampler": "dpmpp_2m", "schedule": "karras"}),
        ({"sampler": "Euler Karras", "schedule": "Automatic"}, {"sampler": "euler", "schedule": "karras"}),
        ({"sampler": "Euler SGM Uniform"}, {"sampler": "euler", "schedule": "sgm_uniform"}),
        ({"schedule": "sgm uniform"}, {"schedule": "sgm_uniform"}),
        ({"prompt": "\N{RED APPLE}\U0001f468\u200d\U0001f469\u200d\U0001f467 äöü\n\tzweite Zeile"}, {}),
        ({"prompt": "a" * 100_000}, {}),
        ({"prompt": "", "negative_prompt": "((((unbalanced [[["}, {}),
        ({"vae": "mse"}, {}),
        ({"checkpoint": "c0ffee1234", "vae": "mse"}, {"width": 512, "height": 512}),
    ],
)
def test_a_good_input_is_the_right_plan(values: dict[str, Any], expected: dict[str, Any]) -> None:
    plan = resolver().resolve(values)
    assert {name: getattr(plan, name) for name in expected} == expected
    assert plan.prompt == values.get("prompt", "")
    assert resolver().resolve(json.loads(json.dumps(plan_json(plan)))) == plan


def test_settings_stand_between_request_and_model() -> None:
    stored: dict[str, Any] = {"checkpoint": "photo", "vae": "mse", "clip_skip": 2, "strict": True}
    plan = resolver(**stored).resolve({})
    assert plan.checkpoint.name == "photo"
    assert plan.checkpoint.sha256 == OTHER.sha256
    assert plan.vae is not None
    assert (plan.clip_skip, plan.strict) == (2, True)
    plan = resolver(**stored).resolve({"checkpoint": "starter", "vae": "None", "clip_skip": 1, "strict": False})
    assert (plan.checkpoint.name, plan.vae, plan.clip_skip, plan.strict) == ("starter", None, 1, False)


def test_models_that_cannot_be_used() -> None:
    with pytest.raises(UnsupportedCheckpoint, match="Stable Diffusion XL, which is not supported"):
        resolver().resolve({"checkpoint": "sdxl"})
    with pytest.raises(CheckpointMissing):
        resolver().resolve({"checkpoint": "../../etc/passwd"})
    with pytest.raises(CheckpointMissing):
        resolver().resolve({"vae": "nothing"})
    with pytest.raises(CheckpointMissing, match="no checkpoint that can be loaded"):
        resolver(FakeModels(ModelInfo(name="x", path="x", family="", label="", supported=False))).resolve({})


def test_a_plan_from_elsewhere_is_found_by_hash_or_name_and_never_by_its_path() -> None:
    values = plan_json(resolver().resolve({"checkpoint": "photo", "vae": "mse"}))
    values["checkpoint"] = {**values["checkpoint"], "name": "renamed", "path": "/etc/passwd"}
    assert resolver().resolve(values).checkpoint.path == OTHER.path
    values["checkpoint"] = {"name": "starter", "path": "/etc/passwd", "sha256": None}
    assert resolver().resolve(values).checkpoint.path == STARTER.path
    values["checkpoint"] = {"name": "photo", "path": "", "sha256": "f" * 64}
    with pytest.raises(RequestError, match="another file"):
        resolver().resolve(values)
    with pytest.raises(RequestError, match="eta"):
        resolver().resolve(
            {**values, "checkpoint": plan_json(resolver().resolve({}))["checkpoint"], "options": {"eta": 1}}
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(
    ["prompt", "negative_prompt", "checkpoint", "vae", "sampler", "schedule", "steps", "seed", "schema"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_whatever_comes_it_is_a_plan_or_a_clear_error(values: dict[str, Any]) -> None:
    try:
        resolver().resolve(values)
    except InferenzError:
        return


def test_options_are_checked_and_filled() -> None:
    plan = resolver().resolve(
        {"sampler": "Euler a", "schedule": "Karras", "options": {"eta": 0.5}, "schedule_options": {"rho": 5},
         "discard_penultimate": True}
    )  # fmt: skip
    assert (plan.options, plan.schedule_options, plan.discard_penultimate) == ({"eta": 0.5}, {"rho": 5.0}, True)
    plain = resolver().resolve({"sampler": "Euler a", "schedule": "Karras"})
    assert (plain.options, plain.schedule_options, plain.discard_penultimate) == ({"eta": 1.0}, {"rho": 7.0}, None)
    assert resolver().resolve(plan_json(plan)) == plan


@pytest.mark.parametrize(
    ("values", "field", "accepted"),
    [
        ({"options": {"zeta": 1}}, "options.zeta", "eta"),
        ({"options": {"eta": 99}}, "options.eta", "a number from"),
        ({"options": {"eta": "much"}}, "options.eta", "valid number"),
        ({"options": {"eta": float("nan")}}, "options.eta", "finite"),
        ({"options": 5}, "options", "dictionary"),
        ({"options": {"x": 1.0, "Eta": 1.0}}, "options.Eta.[key]", "pattern"),
        ({"schedule_options": {"rho": 0}}, "schedule_options.rho", "a number from 1"),
        ({"schedule": "Normal", "schedule_options": {"rho": 5}}, "schedule_options.rho", "no option at all"),
        ({"discard_penultimate": "perhaps"}, "discard_penultimate", "boolean"),
    ],
)
def test_options_that_cannot_be_are_named(values: dict[str, Any], field: str, accepted: str) -> None:
    with pytest.raises(RequestError) as raised:
        resolver().resolve({"sampler": "Euler a", "schedule": "Karras", **values})
    assert raised.value.field == field
    assert accepted in raised.value.accepted


def test_a_variation_keeps_the_seed_and_counts_the_variation_seed() -> None:
    values = {"seed": 5, "variation_seed": 100, "variation_strength": 0.25, "batch_count": 3}
    plan = resolver().resolve(values)
    assert (plan.seeds, plan.variation_seeds, plan.variation_strength) == ((5, 5, 5), (100, 101, 102), 0.25)
    assert plan.only(2).variation_seeds == (102,)
    drawn = resolver().resolve({"seed": 5, "variation_strength": 0.25})
    assert drawn.variation_seeds == (4711,)
    plain = resolver().resolve({"seed": 5, "variation_seed": 100, "batch_count": 2})
    assert (plain.seeds, plain.variation_seeds) == ((5, 6), ())
    assert resolver().resolve(plan_json(plan)) == plan


def test_seeds_of_another_size() -> None:
    asked = {"width": 512, "height": 512, "seed_resize_width": 768, "seed_resize_height": 512}
    assert resolver().resolve(asked).seed_resize == (768, 512)
    assert resolver().resolve({**asked, "seed_resize_width": 512}).seed_resize is None


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"noise_source": "TPU"}, "noise_source"),
        ({"variation_seed": -2}, "variation_seed"),
        ({"variation_seed": MAX_SEED, "variation_strength": 0.5, "batch_count": 2}, "variation_seed"),
        ({"variation_strength": 1.5}, "variation_strength"),
        ({"variation_strength": "some"}, "variation_strength"),
        ({"seed_resize_width": 512}, "seed_resize_height"),
        ({"seed_resize_width": 100, "seed_resize_height": 64}, "seed_resize_width"),
        ({"seed_resize_width": 8, "seed_resize_height": 64}, "seed_resize_width"),
        ({"ensd": 2**40}, "ensd"),
        ({"tiling": "sideways"}, "tiling"),
    ],
)
def test_seeds_and_noise_that_cannot_be_are_named(values: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as raised:
        resolver().resolve(values)
    assert raised.value.field == field
