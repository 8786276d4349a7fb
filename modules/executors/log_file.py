"""A worker's log: what it prints goes to a file of bounded size, and the last lines stay at hand for error messages."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 1_000_000  # of one file; one older file is kept
TAIL_LINES = 20
LINE_BYTES = 4096  # a progress bar without line breaks must not become one endless line


class _Handler(RotatingFileHandler):
    """Goes on in the same file where Windows keeps it from being renamed: another program reads it, or writes to it."""

    def doRollover(self) -> None:  # noqa: N802 - the library's name
        with contextlib.suppress(PermissionError):
            super().doRollover()


class WorkerLog:
    """Takes a worker's standard error. path None: nothing is written, only the tail is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._handler: _Handler | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handler = _Handler(path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", delay=True)
            self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def note(self, text: str) -> None:
        """Write one line."""
        with self._lock:
            self._tail.append(text)
            if self._handler is not None:
                self._handler.handle(logging.LogRecord("worker", logging.INFO, "", 0, "%s", (text,), None))

    def follow(self, stream: BinaryIO) -> None:
        """Write what `stream` gives until it ends."""
        while line := stream.readline(LINE_BYTES):
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if text:
                self.note(text)

    def begin(self) -> None:
        """A new worker: the tail is its own."""
        with self._lock:
            self._tail.clear()

    def last_line(self) -> str:
        """The last line that was printed, at most 300 characters, or nothing."""
        with self._lock:
            return self._tail[-1][:300] if self._tail else ""

    def tail(self) -> tuple[str, ...]:
        """The last lines that were printed."""
        with self._lock:
            return tuple(self._tail)

    def close(self) -> None:
        with self._lock:
            if self._handler is not None:
                self._handler.close()
