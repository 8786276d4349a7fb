"""Infotext against texts as AUTOMATIC1111 writes them, and there and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.core.generation import FileRef, GenerationPlan
from modules.core.infotext import InfotextLabels, form_values, quote, read_infotext, unquote, write_infotext

LABELS = InfotextLabels(sampler="Euler a", schedule="Karras", model="v1-5", model_hash="6ce0161689", version="v1")


def plan(**values: Any) -> GenerationPlan:
    base: dict[str, Any] = {
        "checkpoint": FileRef(name="v1-5", path="/m/v1-5.safetensors"), "family": "sd1", "prompt": "a cat",
        "negative_prompt": "", "clip_skip": 1, "sampler": "euler_a", "schedule": "karras", "steps": 20, "width": 512,
        "height": 768, "cfg_scale": 7.0, "seeds": (1, 2),
    }  # fmt: skip
    return GenerationPlan(**(base | values))


def test_the_text_is_automatic1111s_to_the_letter() -> None:
    assert write_infotext(plan(), LABELS, seed=1) == (
        "a cat\nSteps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, "
        "Model hash: 6ce0161689, Model: v1-5, RNG: CPU, Version: v1"
    )
    labels = InfotextLabels(
        sampler="Euler", schedule="Automatic", model="a, b", vae="x.safetensors", vae_hash="0123456789"
    )
    options = {"eta": 0.5, "s_noise": 1.0}
    text = write_infotext(
        plan(negative_prompt="bad", clip_skip=2, cfg_scale=7.5, options=options), labels, seed=2**64 - 1
    )
    assert text == (
        "a cat\nNegative prompt: bad\nSteps: 20, Sampler: Euler, Schedule type: Automatic, CFG scale: 7.5, "
        'Seed: 18446744073709551615, Size: 512x768, Model: "a, b", VAE hash: 0123456789, VAE: x.safetensors, '
        "Clip skip: 2, RNG: CPU, Eta: 0.5, Sigma noise: 1"
    )
    assert "Sigma" not in write_infotext(plan(options=options), replace(labels, options={"eta": 0.5}), seed=1)
    assert ", Eta: 0.5" in write_infotext(plan(options=options), replace(labels, options={"eta": 0.5}), seed=1)


def test_an_empty_prompt_leaves_the_parameters_alone() -> None:
    text = write_infotext(plan(prompt=""), LABELS, seed=1)
    assert text.startswith("Steps: 20")
    assert read_infotext(text).prompt == ""


WILD = (
    "portrait, (detailed:1.2)\nsecond line: [a|b]\n\nlast <lora:x:0.8>\nNegative prompt: ugly,\nbad: hands\n"
    "Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 77, Size: 640x960, Model hash: abcdef0123, "
    'Model: "a:b", Lora hashes: "x: 1, y: 2", Hires prompt: "line\\none \\"two\\"", Version: v1.6.0'
)


def test_a_text_from_elsewhere_is_taken_apart() -> None:
    info = read_infotext(WILD)
    assert info.prompt == "portrait, (detailed:1.2)\nsecond line: [a|b]\n\nlast <lora:x:0.8>"
    assert info.negative_prompt == "ugly,\nbad: hands"
    assert info.fields["Lora hashes"] == "x: 1, y: 2"
    assert info.fields["Hires prompt"] == 'line\none "two"'
    assert info.fields["Model"] == "a:b"
    assert form_values(info) == {
        "prompt": info.prompt, "negative_prompt": info.negative_prompt, "steps": 28, "seed": 77, "cfg_scale": 6.5,
        "width": 640, "height": 960, "sampler": "DPM++ 2M", "schedule": "Karras", "checkpoint": "abcdef0123",
        "vae": "Automatic", "text_encoder": "Automatic", "clip_skip": 1, "emphasis": "Original", "options": {},
        "schedule_options": {},
        "discard_penultimate": None, "noise_source": "NV",
            "variation_seed": -1, "variation_strength": 0.0, "seed_resize_width": 0, "seed_resize_height": 0, "ensd": 0,
            "tiling": False, "guidance": {},
    }  # fmt: skip


def test_two_matches_are_no_parameters() -> None:
    info = read_infotext("one: a, two: b")
    assert (info.prompt, dict(info.fields)) == ("one: a, two: b", {})


def test_a_prompt_line_that_begins_like_the_negative_prompt_is_read_as_one() -> None:
    """The format's own limit; the lossless chunk is there for it."""
    info = read_infotext(write_infotext(plan(prompt="one\nNegative prompt: two", negative_prompt="n"), LABELS, seed=1))
    assert (info.prompt, info.negative_prompt) == ("one", "two\nn")


@pytest.mark.parametrize("text", ["a" * 200_000, " " * 200_000, "a " * 100_000, 'a: "' * 50_000, "a b:" * 50_000])
def test_long_lines_are_read_in_reasonable_time(text: str) -> None:
    read_infotext(f"x{text}x")


# Text as the format can carry it: no blanks at the ends of lines, no blank line first, none that begins the negative
LINE = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=40).map(str.strip)
CARRIED = (
    st.lists(LINE, max_size=4)
    .map("\n".join)
    .map(str.strip)
    .filter(lambda text: not any(line.startswith("Negative prompt:") for line in text.split("\n")))
)


@given(prompt=CARRIED, negative=CARRIED, name=LINE.filter(bool))
def test_there_and_back(prompt: str, negative: str, name: str) -> None:
    labels = InfotextLabels(sampler="DPM++ 2M", schedule="Karras", model=name, version="1")
    text = write_infotext(plan(prompt=prompt, negative_prompt=negative), labels, seed=5)
    info = read_infotext(text)
    assert (info.prompt, info.negative_prompt) == (prompt, negative)
    assert info.fields["Seed"] == "5"
    assert list(info.fields)[:3] == ["Steps", "Sampler", "Schedule type"]
    if '"' not in name:
        assert info.fields["Model"] == name


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    form_values(read_infotext(text))


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith('"')))
def test_quoting_there_and_back(text: str) -> None:
    assert unquote(quote(text)) == text
