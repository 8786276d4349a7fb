from __future__ import annotations

import pytest

from modules import samplers, schedules
from modules.core.errors import RequestError
from modules.core.sampling import Sampler

SAMPLERS = samplers.registry()
SCHEDULES = schedules.registry()


@pytest.mark.parametrize(
    ("text", "sampler", "schedule"),
    [
        ("Euler a", "euler_a", None),
        ("euler_a", "euler_a", None),
        ("k_euler_a", "euler_a", None),
        ("sample_euler_ancestral", "euler_a", None),
        ("Euler", "euler", None),
        ("  dpm++ 2m ", "dpmpp_2m", None),
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("DPM++ 2M SDE", "dpmpp_2m_sde", None),
        ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential"),
        ("DPM++ 2M SDE SGM Uniform", "dpmpp_2m_sde", "sgm_uniform"),
        ("DPM++ SDE Karras", "dpmpp_sde", "karras"),
        ("k_dpmpp_2m_ka", "dpmpp_2m", "karras"),
        ("k_dpm_2_a_ka", "dpm2_a", "karras"),
        ("k_dpm_2", "dpm2", None),
        ("LMS Karras", "lms", "karras"),
        ("DPM2 a Karras", "dpm2_a", "karras"),
        ("DDIM", "ddim", None),
        ("uni_pc", "unipc", None),
        ("LCM Automatic", "lcm", "automatic"),
        ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun", "exponential"),
        ("DPM++ 2M SDE Heun SGM Uniform", "dpmpp_2m_sde_heun", "sgm_uniform"),
        ("k_dpmpp_2m_sde_heun_ka", "dpmpp_2m_sde_heun", "karras"),
        ("DPM++ 3M SDE Karras", "dpmpp_3m_sde", "karras"),
        ("DPM++ 2S a Karras", "dpmpp_2s_a", "karras"),
        ("k_dpmpp_2s_a_ka", "dpmpp_2s_a", "karras"),
        ("sample_dpmpp_2s_ancestral", "dpmpp_2s_a", None),
        ("k_dpm_ad", "dpm_adaptive", None),
        ("k_dpm_fast", "dpm_fast", None),
        ("dpmpp_3m_sde_gpu", "dpmpp_3m_sde", None),
        ("DDIM CFG++", "ddim_cfgpp", None),
        ("PNDMScheduler", "plms", None),
        ("EulerAncestralDiscreteScheduler", "euler_a", None),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", None),
        ("Euler a Align Your Steps GITS", "euler_a", "align_your_steps_gits"),
        ("Restart KL Optimal", "restart", "kl_optimal"),
        ("ER SDE", "er_sde", None),
    ],
)
def test_names_people_have(text: str, sampler: str, schedule: str | None) -> None:
    found, spacing = samplers.resolve(text, SAMPLERS, SCHEDULES)
    assert found.name == sampler
    assert (spacing.name if spacing else None) == schedule


@pytest.mark.parametrize("kind", SAMPLERS.values(), ids=list(SAMPLERS))
def test_every_name_finds_its_own(kind: Sampler) -> None:
    for text in (kind.name, kind.label, *kind.aliases):
        assert samplers.resolve(text, SAMPLERS, SCHEDULES) == (kind, None)
        for spacing in SCHEDULES.values():
            assert samplers.resolve(f"{text} {spacing.label}", SAMPLERS, SCHEDULES) == (kind, spacing)


def test_unknown_sampler_names_near_ones() -> None:
    with pytest.raises(RequestError, match="no sampler named 'Eular a'") as raised:
        samplers.resolve("Eular a", SAMPLERS, SCHEDULES)
    assert raised.value.field == "sampler"
    assert "Euler a" in raised.value.accepted
    assert "UniPC" not in raised.value.accepted


@pytest.mark.parametrize(
    "text", ["", " ", "Karras", "\0", "qqqqqqqq", "Euler Euler", "DPM++ 2M Karras Karras", "é" * 400]
)
def test_unknown_sampler_lists_all(text: str) -> None:
    with pytest.raises(RequestError) as raised:
        samplers.resolve(text, SAMPLERS, SCHEDULES)
    assert raised.value.field == "sampler"
    assert raised.value.accepted
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ({"eta": 1.5}, "a number from 0 to 1"),
        ({"eta": float("nan")}, "a number from 0 to 1"),
        ({"churn": 1.0}, "eta, s_noise"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], accepted: str) -> None:
    with pytest.raises(RequestError) as raised:
        SAMPLERS["euler_a"].checked_options(options)
    assert raised.value.field == f"options.{next(iter(options))}"
    assert raised.value.accepted == accepted


def test_whole_numbered_options() -> None:
    assert SAMPLERS["lms"].checked_options({"order": 3.0}) == {"order": 3.0}
    with pytest.raises(RequestError, match="an integer from 1 to 4"):
        SAMPLERS["lms"].checked_options({"order": 2.5})
    with pytest.raises(RequestError, match="no option at all"):
        SAMPLERS["lcm"].checked_options({"eta": 1.0})


def test_only_options_that_were_chosen_are_worth_saying() -> None:
    euler_a = SAMPLERS["euler_a"]
    assert euler_a.chosen_options({name: option.default for name, option in euler_a.options.items()}) == {}
    assert euler_a.chosen_options({"eta": 0.5, "s_noise": 1.0}) == {"eta": 0.5}
