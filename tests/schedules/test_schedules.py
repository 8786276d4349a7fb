from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from modules import samplers, schedules
from modules.core.errors import RequestError
from modules.core.sampling import NoiseLevels, Schedule

LEVELS = NoiseLevels.scaled_linear()
SCHEDULES = schedules.registry()
SPACINGS = [kind for kind in SCHEDULES.values() if kind.name != schedules.AUTOMATIC]
RECORDED: dict[str, Any] = json.loads(
    Path(__file__).parents[1].joinpath("samplers", "reference.json").read_text(encoding="utf-8")
)

each = pytest.mark.parametrize("kind", SPACINGS, ids=lambda kind: kind.name)


def test_list_is_as_people_know_it() -> None:
    labels = [kind.label for kind in SCHEDULES.values()]
    assert labels == ["Automatic", "Karras", "Exponential", "SGM Uniform", "Simple", "Normal", "DDIM", "Beta"]


@each
def test_strictly_decreasing_to_zero_for_every_number_of_steps(kind: Schedule) -> None:
    for steps in range(1, 152):  # one more than can be asked: samplers that drop the penultimate sigma need it
        sigmas = kind.run(steps, LEVELS)
        assert len(sigmas) == steps + 1
        assert sigmas[-1] == 0.0
        assert all(isinstance(sigma, float) for sigma in sigmas)
        assert all(high > low for high, low in pairwise(sigmas)), steps
        assert LEVELS.sigma_min - 1e-12 <= sigmas[-2]
        assert sigmas[0] <= LEVELS.sigma_max + 1e-12


@pytest.mark.parametrize("kind", [kind for kind in SPACINGS if kind.name != "ddim"], ids=lambda kind: kind.name)
def test_starts_where_the_model_was_trained_to_start(kind: Schedule) -> None:
    """All but DDIM's, which starts a part of a step below."""
    for steps in (1, 2, 20):
        assert kind.run(steps, LEVELS)[0] == pytest.approx(LEVELS.sigma_max, rel=1e-12)


@pytest.mark.parametrize("name", list(RECORDED["spacings"]))
def test_equals_reference(name: str) -> None:
    """k-diffusion's sigmas, of which some pass through float32 timesteps, and diffusers'."""
    tolerance = {"karras": 1e-12, "exponential": 1e-12, "beta": 1e-12}.get(name, 1e-6)
    for steps, expected in RECORDED["spacings"][name].items():
        assert SCHEDULES[name].run(int(steps), LEVELS) == pytest.approx(expected, rel=tolerance), steps


def test_simple_takes_trained_levels_only() -> None:
    for steps in (1, 7, 20, 150):
        chosen = SCHEDULES["simple"].run(steps, LEVELS)
        assert set(chosen[:-1]) <= set(LEVELS.sigmas)
    # 1000 / 4 levels apart, from the noisiest down.
    assert SCHEDULES["simple"].run(4, LEVELS) == [*(LEVELS.sigmas[t] for t in (999, 749, 499, 249)), 0.0]


@pytest.mark.parametrize("name", ["simple", "ddim"])
def test_more_steps_than_levels_is_refused(name: str) -> None:
    few = NoiseLevels(tuple(0.1 * 1.5**index for index in range(10)))
    for steps in range(1, 11):
        sigmas = SCHEDULES[name].run(steps, few)
        assert len(set(sigmas)) == steps + 1
    with pytest.raises(RequestError, match="11 steps of 10") as raised:
        SCHEDULES[name].run(11, few)
    assert raised.value.field == "steps"


def test_automatic_is_the_samplers_own() -> None:
    known = samplers.registry()
    automatic = SCHEDULES["automatic"]
    meant = {name: schedules.for_sampler(kind, automatic, SCHEDULES).name for name, kind in known.items()}
    assert meant == {
        "dpmpp_2m": "karras",
        "dpmpp_sde": "karras",
        "dpmpp_2m_sde": "exponential",
        "euler_a": "normal",
        "euler": "normal",
        "lms": "normal",
        "heun": "normal",
        "dpm2": "karras",
        "dpm2_a": "karras",
        "lcm": "normal",
        "ddim": "ddim",
        "unipc": "sgm_uniform",
    }
    assert schedules.for_sampler(known["euler"], SCHEDULES["beta"], SCHEDULES) is SCHEDULES["beta"]
    with pytest.raises(LookupError, match="for_sampler"):
        automatic.run(20, LEVELS)


@pytest.mark.parametrize(
    ("text", "name"),
    [("Karras", "karras"), ("SGM Uniform", "sgm_uniform"), ("SGMUniform", "sgm_uniform"), ("Uniform", "normal"),
     ("automatic", "automatic"), ("BETA", "beta")],
)  # fmt: skip
def test_names_people_have(text: str, name: str) -> None:
    assert schedules.resolve(text, SCHEDULES).name == name


@pytest.mark.parametrize(("text", "accepted"), [("Karas", "Karras"), ("zzz", "Automatic, Karras, Exponential")])
def test_unknown_schedule_names_near_ones(text: str, accepted: str) -> None:
    with pytest.raises(RequestError) as raised:
        schedules.resolve(text, SCHEDULES)
    assert raised.value.field == "schedule"
    assert raised.value.accepted.startswith(accepted)


@pytest.mark.parametrize("kind", SCHEDULES.values(), ids=list(SCHEDULES))
def test_documented(kind: Schedule) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "samplers.md").read_text(encoding="utf-8")
    assert f"| {kind.label} |" in page
