from __future__ import annotations

import pytest

from modules import samplers, schedules
from modules.core.checkpoint import Defaults, ModelInfo
from modules.services.readers import in_known_names


def wanting(sampler: str, schedule: str = "automatic") -> Defaults:
    info = ModelInfo(
        name="a", path="a", family="sd1", label="", supported=True,
        defaults=Defaults(sampler=sampler, schedule=schedule, steps=31),
    )  # fmt: skip
    return in_known_names(info, samplers.registry(), schedules.registry()).defaults


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("Euler a", "Karras"), ("euler_a", "karras")),
        (("DPM++ 2M Karras", "Automatic"), ("dpmpp_2m", "karras")),
        (("dpmpp_2m", "automatic"), ("dpmpp_2m", "automatic")),
    ],
)
def test_a_checkpoints_wish_becomes_registry_names(asked: tuple[str, str], found: tuple[str, str]) -> None:
    assert wanting(*asked) == Defaults(sampler=found[0], schedule=found[1], steps=31)


@pytest.mark.parametrize("asked", [("Warp drive", "automatic"), ("Euler", "sideways")])
def test_a_wish_for_a_sampler_that_is_not_here_is_set_aside(
    asked: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert wanting(*asked) == Defaults(steps=31)
    assert asked[0] in caplog.text or asked[1] in caplog.text
