"""The benchmarks for CUDA devices, with the CPU in the device's place: they run to the end, and measure one model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modules.core.job import EngineOptions
from tests.benchmarks import gpu_memory
from tests.benchmarks.gpu_memory import Card
from tests.benchmarks.inline import InlineEngine
from tests.tiny import write_tiny_sd1


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Card:
    def engine(options: EngineOptions) -> InlineEngine:
        return InlineEngine(replace(options, device="cpu"))

    monkeypatch.setattr(gpu_memory, "InlineEngine", engine)
    monkeypatch.setattr(gpu_memory, "capped", lambda gigabytes: None)
    for name, answer in {"synchronize": None, "reset_peak_memory_stats": None, "max_memory_allocated": 1 << 20}.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    options = argparse.Namespace(size=64, steps=2, runs=1, family="sd1")
    return Card(options, write_tiny_sd1(tmp_path / "a.safetensors"))


def test_a_row_tells_of_the_model_that_made_the_pictures(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    computed: list[nn.Module] = []

    def compile_(network: nn.Module, *_: Any, **__: Any) -> None:
        compiled.append(network)
        network.register_forward_hook(lambda module, *_: computed.append(module))

    monkeypatch.setattr(nn.Module, "compile", compile_)
    row = card.row(8, "auto")
    assert (row["GB"], row["asked"], row["mode"], row["error"]) == (8, "auto", "normal", 0.0)
    again = card.row(None, "normal", compiled=True)
    assert (again["asked"], again["error"]) == ("compiled", 0.0)
    assert set(computed) == set(compiled)


def test_what_was_asked_for_the_pictures_is_asked_of_the_model(card: Card) -> None:
    engine = InlineEngine(EngineOptions(device="cpu", preview_ms=0, trace=False))
    card._picture(engine)
    assert card._brought(engine).source == "resident"
    engine.close()
