from __future__ import annotations

import inspect
import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import EulerDiscreteScheduler

from modules import samplers, schedules
from modules.core.errors import RequestError
from modules.core.sampling import NoiseLevels, Schedule, SpacingChoice, sigmas_for
from modules.schedules.align_your_steps import AYS_11, AYS_32, GITS

LEVELS = NoiseLevels.scaled_linear()
SCHEDULES = schedules.registry()
EULER = samplers.registry()["euler"]
SPACINGS = [kind for kind in SCHEDULES.values() if kind.name != schedules.AUTOMATIC]
RECORDED: dict[str, Any] = json.loads(
    Path(__file__).parents[1].joinpath("samplers", "reference.json").read_text(encoding="utf-8")
)

TABLES = {"align_your_steps": AYS_11, "align_your_steps_gits": GITS, "align_your_steps_32": AYS_32}

each = pytest.mark.parametrize("kind", SPACINGS, ids=lambda kind: kind.name)


def test_list_is_as_people_know_it() -> None:
    labels = [kind.label for kind in SCHEDULES.values()]
    assert labels == [
        "Automatic", "Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal",
        "Align Your Steps", "Simple", "Normal", "DDIM", "Beta", "Turbo", "Align Your Steps GITS", "Align Your Steps 11",
        "Align Your Steps 32",
    ]  # fmt: skip


@each
def test_strictly_decreasing_to_zero_for_every_number_of_steps(kind: Schedule) -> None:
    for steps in range(1, 152):  # one more than can be asked: samplers that drop the penultimate sigma need it
        sigmas = kind.run(steps, LEVELS)
        assert len(sigmas) == steps + 1
        assert sigmas[-1] == 0.0
        assert all(isinstance(sigma, float) for sigma in sigmas)
        assert all(high > low for high, low in pairwise(sigmas)), steps
        if kind.name.startswith("align"):  # printed with three digits, and 32 levels go below what was trained
            assert sigmas[-2] >= 0.015 - 1e-12
            assert sigmas[0] == pytest.approx(14.615)
        else:
            assert LEVELS.sigma_min - 1e-12 <= sigmas[-2]
            assert sigmas[0] <= LEVELS.sigma_max + 1e-12


@pytest.mark.parametrize("kind", [kind for kind in SPACINGS if kind.name != "ddim"], ids=lambda kind: kind.name)
def test_starts_where_the_model_was_trained_to_start(kind: Schedule) -> None:
    """All but DDIM's, which starts a part of a step below."""
    for steps in (1, 2, 20):
        assert kind.run(steps, LEVELS)[0] == pytest.approx(
            LEVELS.sigma_max, rel=1e-4 if kind.name.startswith("align") else 1e-12
        )


@pytest.mark.parametrize("name", list(RECORDED["spacings"]))
def test_equals_reference(name: str) -> None:
    """k-diffusion's sigmas, of which some pass through float32 timesteps, and diffusers'."""
    tolerance = {"karras": 1e-12, "exponential": 1e-12, "polyexponential": 1e-12, "beta": 1e-12}.get(name, 1e-6)
    for steps, expected in RECORDED["spacings"][name].items():
        assert SCHEDULES[name].run(int(steps), LEVELS) == pytest.approx(expected, rel=tolerance), steps


def test_simple_takes_trained_levels_only() -> None:
    for steps in (1, 7, 20, 150):
        chosen = SCHEDULES["simple"].run(steps, LEVELS)
        assert set(chosen[:-1]) <= set(LEVELS.sigmas)
    # 1000 / 4 levels apart, from the noisiest down.
    assert SCHEDULES["simple"].run(4, LEVELS) == [*(LEVELS.sigmas[t] for t in (999, 749, 499, 249)), 0.0]


@pytest.mark.parametrize("name", ["align_your_steps", "align_your_steps_gits", "align_your_steps_32"])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_tables_are_interpolated_in_log_sigma(name: str, family: str) -> None:
    """As the paper's page says: numpy's linear interpolation of the logarithms, from the smallest level up."""
    levels = replace(LEVELS, family=family)
    table = next(tables for label, tables in TABLES.items() if label == name)
    known = table.get(family, table[""])
    for steps in (2, 5, 11, 20, 32, 50):
        places = np.linspace(0, 1, steps)
        wanted = np.exp(np.interp(places, np.linspace(0, 1, len(known)), np.log(known[::-1])))[::-1]
        assert SCHEDULES[name].run(steps, levels) == pytest.approx([*wanted, 0.0], rel=1e-12)
    assert SCHEDULES[name].run(len(known), levels)[:-1] == pytest.approx(list(known), rel=1e-12)


def test_kl_optimal_is_even_in_the_arc_tangent() -> None:
    """AUTOMATIC1111's levels, of which the last, the smallest sigma, is 0 here."""
    share = np.arange(10) / 9
    wanted = np.tan(share * np.arctan(LEVELS.sigma_min) + (1 - share) * np.arctan(LEVELS.sigma_max))
    assert SCHEDULES["kl_optimal"].run(9, LEVELS) == pytest.approx([*wanted[:-1], 0.0], rel=1e-12)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' scheduler, numpy 2
def test_turbo_is_the_trailing_spacing() -> None:
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
    )
    for steps in (1, 2, 4, 8, 20):
        scheduler.set_timesteps(steps)
        wanted = [LEVELS.sigmas[int(t)] for t in scheduler.timesteps]
        assert SCHEDULES["turbo"].run(steps, LEVELS)[:-1] == pytest.approx(wanted, rel=1e-12)
    assert SCHEDULES["turbo"].run(1, LEVELS) == [LEVELS.sigma_max, 0.0]


def test_options_move_the_ends_and_bend_the_middle() -> None:
    for kind in SPACINGS:
        if "sigma_min" in kind.options:
            sigmas = kind.run(7, LEVELS, sigma_min=0.1, sigma_max=9.0)
            assert sigmas[0] == pytest.approx(9.0, rel=1e-6), kind.name
            assert sigmas[-2] >= 0.1 * (1 - 1e-6)
    assert SCHEDULES["karras"].run(5, LEVELS, rho=1)[2] == pytest.approx((LEVELS.sigma_max + LEVELS.sigma_min) / 2)
    assert SCHEDULES["polyexponential"].run(9, LEVELS) == pytest.approx(SCHEDULES["exponential"].run(9, LEVELS))
    low, high = math.log(LEVELS.sigma_min), math.log(LEVELS.sigma_max)
    assert SCHEDULES["polyexponential"].run(3, LEVELS, rho=2)[1] == pytest.approx(math.exp(low + (high - low) / 4))
    even = SCHEDULES["beta"].run(5, LEVELS, alpha=1, beta=1)
    assert np.diff(even[:-1]) == pytest.approx([(LEVELS.sigma_min - LEVELS.sigma_max) / 4] * 4)


@pytest.mark.parametrize("kind", SPACINGS, ids=lambda kind: kind.name)
def test_declared_options_are_the_functions(kind: Schedule) -> None:
    taken = {n: p for n, p in inspect.signature(kind.run).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert {name: one.default for name, one in taken.items()} == {
        name: option.default for name, option in kind.options.items()
    }


def test_options_that_cannot_be() -> None:
    with pytest.raises(RequestError, match=r"schedule_options\.sigma_min") as raised:
        SCHEDULES["karras"].run(5, LEVELS, sigma_min=20.0)
    assert "0.02917 to 14.61" in raised.value.accepted
    with pytest.raises(RequestError, match=r"schedule_options\.sigma_max"):
        SCHEDULES["kl_optimal"].run(5, LEVELS, sigma_max=0.01)
    with pytest.raises(RequestError, match=r"schedule_options\.alpha"):
        SCHEDULES["beta"].run(150, LEVELS, alpha=0.05, beta=20)
    with pytest.raises(RequestError, match=r"schedule_options\.rho"):
        SCHEDULES["karras"].checked_options({"rho": 0})
    with pytest.raises(RequestError, match=r"schedule_options\.sigma_min"):
        SCHEDULES["ddim"].checked_options({"sigma_min": 1})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgm_uniform", {"sigma_min": 0.001, "sigma_max": 0.02}),
        ("polyexponential", {"rho": 100.0}),
    ],
)
def test_options_that_leave_no_room_are_refused(name: str, options: dict[str, float]) -> None:
    """A step between two equal levels would be a division by 0 in some sampler."""
    with pytest.raises(RequestError, match="cannot make 50 different") as raised:
        sigmas_for(EULER, SCHEDULES[name], 50, LEVELS, SpacingChoice(options=options))
    assert "0.02917 to 14.61" in raised.value.accepted


def test_leaving_out_the_penultimate_level_keeps_the_number_of_steps() -> None:
    euler, dpm2 = samplers.registry()["euler"], samplers.registry()["dpm2"]
    karras = SCHEDULES["karras"]
    usual, without = (sigmas_for(euler, karras, 5, LEVELS, SpacingChoice(discard=each)) for each in (None, True))
    assert usual == tuple(karras.run(5, LEVELS))
    longer = karras.run(6, LEVELS)
    assert without == (*longer[:-2], 0.0) == sigmas_for(dpm2, karras, 5, LEVELS)
    assert sigmas_for(dpm2, karras, 5, LEVELS, SpacingChoice(discard=False)) == usual
    bent = sigmas_for(euler, karras, 5, LEVELS, SpacingChoice(options={"rho": 3.0}))
    assert bent == tuple(karras.run(5, LEVELS, rho=3.0))


@pytest.mark.parametrize("name", ["simple", "ddim", "turbo"])
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
    others = {
        **dict.fromkeys(
            ("dpmpp_2m", "dpmpp_sde", "dpmpp_2s_a", "dpm2", "dpm2_a", "restart", "sa_solver"), "karras"
        ),
        **dict.fromkeys(("dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde"), "exponential"),
        **dict.fromkeys(("ddim", "ddim_cfgpp", "plms"), "ddim"),
        **dict.fromkeys(("unipc", "tcd"), "sgm_uniform"),
    }  # fmt: skip
    assert meant == {name: others.get(name, "normal") for name in known}
    assert schedules.for_sampler(known["euler"], SCHEDULES["beta"], SCHEDULES) is SCHEDULES["beta"]
    with pytest.raises(LookupError, match="for_sampler"):
        automatic.run(20, LEVELS)


@pytest.mark.parametrize(
    ("text", "name"),
    [("Karras", "karras"), ("SGM Uniform", "sgm_uniform"), ("SGMUniform", "sgm_uniform"), ("Uniform", "uniform"),
     ("automatic", "automatic"), ("BETA", "beta")],
)  # fmt: skip
def test_names_people_have(text: str, name: str) -> None:
    assert schedules.resolve(text, SCHEDULES).name == name


@pytest.mark.parametrize(("text", "accepted"), [("Karas", "Karras"), ("zzz", "Automatic, Uniform, Karras")])
def test_unknown_schedule_names_near_ones(text: str, accepted: str) -> None:
    with pytest.raises(RequestError) as raised:
        schedules.resolve(text, SCHEDULES)
    assert raised.value.field == "schedule"
    assert raised.value.accepted.startswith(accepted)


@pytest.mark.parametrize("kind", SCHEDULES.values(), ids=list(SCHEDULES))
def test_documented(kind: Schedule) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "samplers.md").read_text(encoding="utf-8")
    assert f"| {kind.label} |" in page
