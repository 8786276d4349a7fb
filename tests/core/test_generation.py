"""Requests and plans: what is accepted, what is refused with which words, and that JSON loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.core.errors import RequestError
from modules.core.generation import (
    MAX_PROMPT_CHARACTERS,
    FileRef,
    GenerationPlan,
    GenerationRequest,
    parse_plan,
    parse_request,
    plan_json,
    request_json,
)

PLAN = GenerationPlan(
    checkpoint=FileRef(name="starter", path="/models/starter.safetensors", sha256="ab" * 32),
    family="sd1",
    prompt="an apple",
    negative_prompt="",
    clip_skip=1,
    sampler="euler",
    schedule="normal",
    steps=20,
    width=128,
    height=192,
    cfg_scale=7.0,
    seeds=(5, 6, 7),
    batch_size=2,
)


def test_an_empty_request_is_a_request() -> None:
    assert parse_request({}) == GenerationRequest()


def test_a_plan_survives_json() -> None:
    assert parse_plan(json.loads(json.dumps(plan_json(PLAN)))) == PLAN


def test_only_keeps_one_seed_and_the_rest() -> None:
    alone = PLAN.only(1)
    assert alone.seeds == (6,)
    assert alone.batch_size == 1
    assert alone.prompt == PLAN.prompt


def test_short_hash_is_the_first_ten_digits() -> None:
    assert PLAN.checkpoint.short_hash == "abababababab"[:10]
    assert FileRef(name="x", path="y").short_hash is None


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("steps", 0, "a whole number from 1 to 150"),
        ("steps", 151, "from 1 to 150"),
        ("steps", "many", "a whole number"),
        ("steps", 2.5, "a whole number"),
        ("width", 63, "a multiple of 8 from 64 to 4096"),
        ("width", 100, "a multiple of 8 from 64"),
        ("height", 100_000, "to 4096"),
        ("cfg_scale", float("nan"), "from 1.0 to 30.0"),
        ("cfg_scale", float("inf"), "from 1.0 to 30.0"),
        ("cfg_scale", 0.5, "from 1.0"),
        ("seed", -2, "from -1"),
        ("seed", 2**70, "from -1"),
        ("batch_count", 0, "from 1"),
        ("batch_size", 17, "to 16"),
        ("prompt", "x" * (MAX_PROMPT_CHARACTERS + 1), "at most 100,000 characters"),
        ("prompt", 7, "text"),
        ("clip_skip", 13, "to 12"),
        ("checkpoint", ["a"], "text"),
        ("stepps", 20, "steps"),
    ],
)
def test_a_bad_value_names_the_field_and_what_would_be_right(field: str, value: Any, accepted: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request({field: value})
    assert caught.value.field == field
    assert accepted in caught.value.accepted
    assert len(str(caught.value)) < 300


def test_a_plan_of_another_schema_is_refused() -> None:
    with pytest.raises(RequestError, match="schema"):
        parse_plan({**plan_json(PLAN), "schema": 99})


@given(
    st.builds(
        GenerationRequest,
        prompt=st.text(max_size=200),
        negative_prompt=st.text(max_size=50),
        steps=st.one_of(st.none(), st.integers(1, 150)),
        width=st.one_of(st.none(), st.integers(8, 512).map(lambda side: side * 8)),
        cfg_scale=st.one_of(st.none(), st.floats(1, 30)),
        seed=st.integers(-1, 2**63 - 1),
    )
)
def test_every_request_survives_json(request: GenerationRequest) -> None:
    assert parse_request(json.loads(json.dumps(request_json(request)))) == request
