"""`python webui.py models`: the list, and `--take`, of which every other start sees what was decided."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import pytest

from modules.commands import models
from modules.commands.console import BAD_INPUT, FINE, Console
from tests.commands.desk import Desk
from tests.tiny import write_tiny_sd1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoints = tmp_path / "models" / "Stable-diffusion"
    checkpoints.mkdir(parents=True)
    write_tiny_sd1(checkpoints / "tiny.safetensors")
    return tmp_path


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `models WORDS`."""
    parser = argparse.ArgumentParser()
    models.add_arguments(parser)
    out, problems = io.StringIO(), io.StringIO()
    console = Console(out=out, err=problems)
    code = models.run(parser.parse_args(["--data-dir", str(folder), *words]), console)
    return code, out.getvalue(), problems.getvalue()


def listed(folder: Path) -> Any:
    return json.loads(run(folder, "--json")[1])["checkpoints"][0]


def test_models_are_listed(desk: Desk) -> None:
    assert desk.main("models") == FINE
    assert "Checkpoints: 1" in desk.lines
    assert any("tiny.safetensors" in line and "Stable Diffusion 1" in line for line in desk.lines)
    assert desk.main("models", "--json") == FINE
    assert json.loads(desk.lines[-1])["checkpoints"][0]["name"] == "tiny"


def test_what_is_taken_is_listed_so_until_it_is_taken_back(folder: Path) -> None:
    code, out, _ = run(folder, "--take", "tiny", "prediction=v")
    assert (code, out) == (FINE, "tiny.safetensors: Stable Diffusion 1, v\n")
    assert listed(folder)["prediction"] == "v"
    code, out, _ = run(folder, "--json", "--take", "tiny")
    assert (code, json.loads(out)["prediction"]) == (FINE, "epsilon")
    assert listed(folder)["prediction"] == "epsilon"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tiny", "family=sd9"), "sd1"),
        (("tiny", "prediction=flow"), "epsilon, v"),
        (("tiny", "colour=red"), "family=..., prediction=..., variant=..."),
        (("tiny", "prediction"), "prediction=..."),
        (("nothing",), "tiny"),
    ],
)
def test_what_cannot_be_is_told(folder: Path, words: tuple[str, ...], said: str) -> None:
    code, out, problems = run(folder, "--take", *words)
    assert (code, out) == (BAD_INPUT, "")
    assert said in problems
