"""Guidance from a request to a plan."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modules.core.errors import RequestError
from modules.core.generation import GenerationPlan, plan_json
from tests.fakes.models import resolver


def resolved(values: dict[str, Any]) -> GenerationPlan:
    return resolver(emphasis="Original").resolve(values)


@pytest.mark.parametrize(
    ("asked", "planned"),
    [
        ({}, {}),
        ({"pag": {"scale": 0}, "rescale": {}, "apg": {"eta": 1}}, {}),
        ({"skip": {"sigma": "2.5", "all": True}}, {"skip": {"sigma": 2.5, "all": 1.0}}),
        ({"CFG rescale": {"phi": 0.7}, "PAG": {"scale": 3}}, {"pag": {"scale": 3.0}, "rescale": {"phi": 0.7}}),
    ],
)
def test_only_what_changes_something_is_planned(asked: dict[str, Any], planned: dict[str, Any]) -> None:
    plan = resolved({"guidance": asked})
    assert plan.guidance == planned
    assert resolved(json.loads(json.dumps(plan_json(plan)))) == plan


def test_plans_from_before_guidance_are_read() -> None:
    values = plan_json(resolved({}))
    del values["guidance"]
    assert resolved(values).guidance == {}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"pog": {"scale": 3}}, "guidance.pog"),
        ({"pag": {"scala": 3}}, "guidance.pag.scala"),
        ({"pag": {"scale": 21}}, "guidance.pag.scale"),
        ({"pag": {"scale": -0.5}}, "guidance.pag.scale"),
        ({"skip": {"all": 0.5}}, "guidance.skip.all"),
        ({"pag": {"scale": "much"}}, "guidance.pag.scale"),
        ({"pag": {"scale": float("nan")}}, "guidance.pag.scale"),
        ({"pag": 3}, "guidance.pag"),
        ({"": {}}, "guidance."),
        (["pag"], "guidance"),
        ({str(n): {} for n in range(99)}, "guidance"),
        ({"x" * 500: {}}, f"guidance.{'x' * 500}.[key]"),
    ],
)
def test_what_is_wrong_is_refused_by_name(asked: Any, field: str) -> None:
    for values in ({"guidance": asked}, {**plan_json(resolved({})), "guidance": asked}):
        with pytest.raises(RequestError) as refused:
            resolved(values)
        assert refused.value.field == field
        assert refused.value.accepted
