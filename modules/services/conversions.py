"""Pickled checkpoints into safetensors, each in a process of its own, for reading a pickle needs torch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from modules.core.errors import RequestError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, str(ROOT / "webui.py"), "convert")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """One conversion. name: the model's in the catalog. problem: the converter's sentence where it failed.

    seconds: how long it has been running, or took.
    """

    name: str
    state: Literal["running", "done", "failed"]
    started: float
    seconds: float = 0.0
    problem: str = ""


class Conversions:
    """The conversions since the start, one at a time. Thread-safe.

    program: what to run; it is given the source and prints its error, if any, as the last line of standard error.
    done: called after each that succeeded.
    """

    def __init__(self, done: Callable[[], None] = lambda: None, *, program: Sequence[str] = PROGRAM) -> None:
        self._program = tuple(program)
        self._done = done
        self._lock = threading.Lock()
        self._known: dict[str, Conversion] = {}
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, name: str, source: Path) -> Conversion:
        """Begin; returns at once. Raises RequestError while another one runs, or where the new file exists already."""
        target = source.with_suffix(".safetensors")
        if target.exists():
            raise RequestError("name", f"{target.name} is there already", accepted="a file that was not converted yet")
        with self._lock:
            running = next((each.name for each in self._known.values() if each.state == "running"), None)
            if running is not None or self._closed:
                busy = f"{running} is being converted" if running else "the server is closing"
                raise RequestError("name", busy, accepted="one file after another")
            conversion = Conversion(name=name, state="running", started=time.monotonic())
            self._known[name] = conversion
            self._thread = threading.Thread(target=self._run, args=(conversion, source), name="convert")
            self._thread.start()
        return conversion

    def all(self) -> tuple[Conversion, ...]:
        """Every conversion, in the order they were begun."""
        now = time.monotonic()
        with self._lock:
            return tuple(
                replace(each, seconds=now - each.started) if each.state == "running" else each
                for each in self._known.values()
            )

    def close(self) -> None:
        """End the one that runs; no half-written file stays, for the converter renames at its end."""
        with self._lock:
            self._closed = True
            process, thread = self._process, self._thread
        if process is not None:
            process.terminate()
        if thread is not None:
            thread.join()

    def _run(self, conversion: Conversion, source: Path) -> None:
        problem = self._convert(source)
        seconds = time.monotonic() - conversion.started
        with self._lock:
            self._process = None
            self._known[conversion.name] = replace(
                conversion, state="failed" if problem else "done", problem=problem, seconds=seconds
            )
        if not problem:
            self._done()

    def _convert(self, source: Path) -> str:
        try:
            with self._lock:
                if self._closed:
                    return "The server was closed."
                self._process = process = subprocess.Popen(
                    [*self._program, str(source)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
                    env=os.environ | {"PYTHONUTF8": "1"},
                )  # fmt: skip
        except OSError as error:
            return f"The converter cannot be started: {error.strerror or error}."
        _, said = process.communicate()
        if process.returncode == 0:
            return ""
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        told = [line.removeprefix("Error:").strip() for line in lines if line.startswith("Error:")]
        return (told or lines or [f"The converter ended with status {process.returncode}."])[-1]
