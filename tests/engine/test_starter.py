"""The engine with the real model manager and the starter checkpoint that comes with the program."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import Completed, Encoded, EngineOptions, Event, ImageReady, ModelReady, Preview
from modules.engine.engine import Engine

STARTER = Path(__file__).parents[2] / "models" / "Stable-diffusion" / "inferenz-starter.safetensors"
APPLE = GenerationPlan(
    checkpoint=FileRef(name="inferenz-starter", path=str(STARTER)), family="sd1",
    prompt="a red apple on a blue background", negative_prompt="", clip_skip=1, sampler="dpmpp_2m",
    schedule="karras", steps=12, width=128, height=128, cfg_scale=4.0, seeds=(1,),
)  # fmt: skip


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def engine(events: list[Event]) -> Iterator[Engine]:
    engine = Engine(EngineOptions(device="cpu", preview_ms=1), events.append)
    yield engine
    engine.close()


def made(engine: Engine, events: list[Event], plan: GenerationPlan) -> list[Event]:
    """The events of a plan, run to its end."""
    events.clear()
    engine.submit("j", plan)
    while engine.tick():
        pass
    assert engine.settle(60)
    assert isinstance(events[-1], Completed)
    return list(events)


def pixels(found: list[Event], index: int = 0) -> NDArray[np.float64]:
    (png,) = (event.payload for event in found if isinstance(event, ImageReady) and event.index == index)
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.float64)


def test_a_red_apple_on_a_blue_background(engine: Engine, events: list[Event]) -> None:
    found = made(engine, events, replace(APPLE, seeds=(1, 2), batch_size=2))
    for index in range(2):
        rgb = pixels(found, index)
        assert rgb.shape == (128, 128, 3)
        middle = rgb[56:88, 48:80].mean(axis=(0, 1))
        corners = np.concatenate([rgb[:16, :16], rgb[:16, -16:], rgb[-16:, :16], rgb[-16:, -16:]]).mean(axis=(0, 1))
        assert middle[0] > middle[2] + 60
        assert corners[2] > corners[0] + 60
    (ready,) = (event for event in found if isinstance(event, ModelReady))
    assert (ready.source, ready.device, ready.dtype) == ("file", "cpu", "float32")
    (encoded,) = (event for event in found if isinstance(event, Encoded))
    assert encoded.tokens[0] == ("a", "red", "apple", "on", "a", "blue", "background")


def test_the_last_preview_has_the_colours_of_the_picture(engine: Engine, events: list[Event]) -> None:
    for _ in range(5):  # on a busy machine the last preview may be an early one, of what is no picture yet
        found = made(engine, events, APPLE)
        preview = [event for event in found if isinstance(event, Preview)][-1]
        if preview.step > APPLE.steps // 2:
            break
    shown = Image.open(io.BytesIO(preview.payload)).resize((16, 16), Image.Resampling.BOX)
    picture = Image.fromarray(pixels(found).astype(np.uint8)).resize((16, 16), Image.Resampling.BOX)
    assert np.abs(np.asarray(shown, dtype=float) - np.asarray(picture, dtype=float)).mean() < 30


def test_same_seed_same_bytes(engine: Engine, events: list[Event]) -> None:
    first, second = (made(engine, events, replace(APPLE, seeds=(3,))) for _ in range(2))
    assert np.array_equal(pixels(first), pixels(second))
    (ready,) = (event for event in second if isinstance(event, ModelReady))
    assert ready.source == "resident"


@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_2m"])
def test_alone_and_in_company_agree(engine: Engine, events: list[Event], sampler: str) -> None:
    """PSNR of the decoded pictures at least 60 dB; strict ones are equal."""
    plan = replace(APPLE, sampler=sampler, steps=4)
    alone = pixels(made(engine, events, replace(plan, seeds=(5,))))
    company = pixels(made(engine, events, replace(plan, seeds=(4, 5), batch_size=2)), 1)
    error = ((alone - company) ** 2).mean()
    assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 60
    strict = pixels(made(engine, events, replace(plan, seeds=(4, 5), batch_size=2, strict=True)), 1)
    assert np.array_equal(alone, strict)
