"""Conversions in a process of their own, with small programs in the converter's place."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from modules.core.errors import RequestError
from modules.services.conversions import Conversion, Conversions

WRITES = "import pathlib, sys; pathlib.Path(sys.argv[1]).with_suffix('.safetensors').write_bytes(b'tensors')"
FAILS = (
    "import sys; print('a warning', file=sys.stderr); print('Error: it asks for code.', file=sys.stderr); sys.exit(1)"
)
WAITS = "import time; time.sleep(60)"
CRASHES = "import os; os._exit(9)"


def wait(conversions: Conversions, name: str) -> Conversion:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        (found,) = (each for each in conversions.all() if each.name == name)
        if found.state != "running":
            return found
        time.sleep(0.02)
    raise TimeoutError(name)


def program(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "old.ckpt"
    path.write_bytes(b"pickle")
    return path


def test_it_writes_beside_the_source_and_says_so(source: Path) -> None:
    told: list[str] = []
    conversions = Conversions(lambda: told.append("done"), program=program(WRITES))
    assert conversions.start("old", source).state == "running"
    assert wait(conversions, "old").state == "done"
    conversions.close()
    assert told == ["done"]
    assert source.with_suffix(".safetensors").read_bytes() == b"tensors"
    with pytest.raises(RequestError, match="is there already"):
        conversions.start("old", source)


@pytest.mark.parametrize(
    ("code", "said"), [(FAILS, "it asks for code."), (CRASHES, "The converter ended with status 9.")]
)
def test_a_failure_keeps_the_converters_sentence(source: Path, code: str, said: str) -> None:
    conversions = Conversions(program=program(code))
    conversions.start("old", source)
    found = wait(conversions, "old")
    conversions.close()
    assert (found.state, found.problem) == ("failed", said)


def test_a_converter_that_cannot_start_says_so(source: Path) -> None:
    conversions = Conversions(program=(str(source.parent / "nothing"),))
    conversions.start("old", source)
    assert "cannot be started" in wait(conversions, "old").problem
    conversions.close()


def test_one_at_a_time_and_closing_ends_it(source: Path, tmp_path: Path) -> None:
    conversions = Conversions(program=program(WAITS))
    conversions.start("old", source)
    with pytest.raises(RequestError, match="old is being converted"):
        conversions.start("other", tmp_path / "other.ckpt")
    conversions.close()
    assert conversions.all()[0].state == "failed"
    with pytest.raises(RequestError, match="closing"):
        conversions.start("third", tmp_path / "third.ckpt")
