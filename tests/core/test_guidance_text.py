"""Guidance in the parameters text: AUTOMATIC1111's names, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.core.guidance_text import read_guidance
from modules.core.infotext import form_values, lost_fields, read_infotext, write_infotext
from tests.core.test_infotext import LABELS, plan


def test_names_are_automatic1111s_and_come_before_the_version() -> None:
    guidance = {"pag": {"scale": 3.0}, "rescale": {"phi": 0.7}, "skip": {"sigma": 2.5, "all": 1.0, "early": 0.1}}
    text = write_infotext(plan(guidance=guidance), LABELS, seed=1)
    assert text.endswith(
        "RNG: CPU, PAG Active: True, PAG Scale: 3, Guidance rescale phi: 0.7, NGMS: 2.5, NGMS all steps: True, "
        "Skip Early CFG: 0.1, Version: v1"
    )
    assert form_values(read_infotext(text))["guidance"] == guidance


def test_a_text_without_guidance_says_nothing_of_it() -> None:
    text = write_infotext(plan(), LABELS, seed=1)
    assert form_values(read_infotext(text))["guidance"] == {}
    assert "uidance" not in text


NUMBERS = st.floats(-100, 100, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-90)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,9}", fullmatch=True)


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, NUMBERS, min_size=1, max_size=3), max_size=3))
def test_options_without_a_name_of_their_own_come_back(guidance: dict[str, dict[str, float]]) -> None:
    guidance.pop("skip", None)  # its checkbox holds no other numbers
    text = write_infotext(plan(guidance=guidance), LABELS, seed=1)
    assert form_values(read_infotext(text)).get("guidance", {}) == guidance


@pytest.mark.parametrize("value", ["", "nan", "inf", "1e999", "high", "1,5", "9" * 400, "0x10"])
def test_what_is_no_number_is_left_out(value: str) -> None:
    assert read_guidance({"NGMS": value, "PAG scale": "1.5"}) == {"pag": {"scale": 1.5}}


def test_forms_of_the_checkbox() -> None:
    assert [read_guidance({"NGMS all steps": text}) for text in ("True", "False", "1", "perhaps")] == [
        {"skip": {"all": 1.0}}, {"skip": {"all": 0.0}}, {"skip": {"all": 1.0}}, {}
    ]  # fmt: skip


@pytest.mark.parametrize(("form", "name"), [(1.0, "CFG Rescale"), (2.0, "CFG Rescale phi")])
def test_each_extension_that_rescales_has_its_name(form: float, name: str) -> None:
    guidance = {"rescale": {"phi": 0.7, "form": form}}
    text = write_infotext(plan(guidance=guidance), LABELS, seed=1)
    assert f"RNG: CPU, {name}: 0.7, Version" in text
    info = read_infotext(text)
    assert form_values(info)["guidance"] == guidance
    assert lost_fields(info) == ()


def test_what_the_extensions_say_of_themselves() -> None:
    line = (
        "a\nSteps: 20, Sampler: Euler, Seed: 1, CFG Rescale φ: 0.3, CFG Rescale phi: 0, PAG Active: True, PAG Scale: 2"
    )
    info = read_infotext(line)
    assert form_values(info)["guidance"] == {"rescale": {"phi": 0.3, "form": 1.0}, "pag": {"scale": 2.0}}
    assert lost_fields(info) == ()
    assert read_guidance({"PAG Active": "False", "PAG Scale": "2"}) == {}
