"""What the bootstrap does to this computer, where Windows is told apart."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.bootstrap.machine import this_machine


def test_a_folder_that_the_stream_has_no_letters_for_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))  # a pipe or file on Windows
    this_machine().say("Making a Python environment in C:\\Женя\\Jörg")
    assert written.getvalue().decode("cp1252").rstrip().endswith("\\Jörg")


@pytest.fixture
def ctrl_break(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The signal that only Windows has, played by another one."""
    if sys.platform == "win32":
        pytest.skip("the real one would be left ignored")
    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


def test_ctrl_break_leaves_the_parent_to_hand_on_the_exit_status(ctrl_break: int, tmp_path: Path) -> None:
    program = f"import os, signal; os.kill(os.getppid(), {int(ctrl_break)}); raise SystemExit(7)"
    assert this_machine().follow([sys.executable, "-c", program], tmp_path) == 7
