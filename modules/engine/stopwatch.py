"""How long the model computes, and that the device is never far behind what has been asked of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

PASSES_AHEAD = 2  # queued on the device at most, so that progress is true and an interrupt is quick


class Timed(Protocol):
    """Whose time is counted."""

    model_seconds: float


@dataclass
class _Pass:
    begin: Any
    end: Any
    whose: Sequence[Timed]
    told: Callable[[float], None] | None


class Stopwatch:
    """Adds the seconds of a block to each of those it was for. A CUDA device is asked later, so that nothing waits."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._passes: deque[_Pass] = deque()

    @contextmanager
    def model(
        self, device: torch.device, whose: Sequence[Timed], told: Callable[[float], None] | None = None
    ) -> Iterator[None]:
        """Time a block of model work. told: called with its seconds once they are known."""
        if device.type != "cuda":
            began = self._clock()
            try:
                yield
            finally:
                seconds = self._clock() - began
                _add(whose, seconds)
                if told is not None:
                    told(seconds)
            return
        while len(self._passes) >= PASSES_AHEAD:
            self._collect(self._passes.popleft())
        begin: Any = torch.cuda.Event(enable_timing=True)
        end: Any = torch.cuda.Event(enable_timing=True)
        begin.record()
        try:
            yield
        finally:
            end.record()
            self._passes.append(_Pass(begin, end, whose, told))

    def settle(self) -> None:
        """Count what is still on its way; waits for the device."""
        while self._passes:
            self._collect(self._passes.popleft())

    def _collect(self, done: _Pass) -> None:
        done.end.synchronize()
        seconds = done.begin.elapsed_time(done.end) / 1000
        _add(done.whose, seconds)
        if done.told is not None:
            done.told(seconds)


def _add(whose: Sequence[Timed], seconds: float) -> None:
    for each in whose:
        each.model_seconds += seconds
