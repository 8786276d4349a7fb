"""The engine driven from the caller's own thread, and jobs that carry what a benchmark asks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modules.backbones.unet import UnetModel
from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import END_EVENTS, Completed, EngineOptions, Event
from modules.engine.engine import Engine
from modules.engine.manager import ModelManager
from tests.passes import chosen

Kind = TypeVar("Kind", bound=Event)


def plan(
    checkpoint: Path,
    *,
    side: int,
    steps: int,
    prompt: str,
    negative: str = "blurry",
    seeds: tuple[int, ...] = (1,),
    family: str = "",
) -> GenerationPlan:
    """Euler on the normal schedule, CFG 7: what the bare loop does. family: "" for what the file is recognised as."""
    return GenerationPlan(
        checkpoint=FileRef(name=checkpoint.stem, path=str(checkpoint)), family=family, prompt=prompt,
        negative_prompt=negative, clip_skip=1, sampler="euler", schedule="normal", steps=steps, width=side,
        height=side, cfg_scale=7.0, seeds=seeds, batch_size=len(seeds),
    )  # fmt: skip


class InlineEngine:
    """An engine and its model manager, run by whoever asks for a job: no thread of its own disturbs the clock."""

    def __init__(self, options: EngineOptions) -> None:
        self.manager = ModelManager(options)
        self._seen: list[tuple[float, Event]] = []
        self._numbers = itertools.count()
        self._engine = Engine(options, self._on_event, manager=self.manager)

    def _on_event(self, event: Event) -> None:
        self._seen.append((time.perf_counter(), event))

    def run(self, wanted: GenerationPlan) -> Job:
        """Run a job to its end. Raises RuntimeError unless it is completed."""
        self._seen.clear()
        began = time.perf_counter()
        self._engine.submit(f"job {next(self._numbers)}", wanted)
        while self._engine.tick():
            pass
        self._engine.settle()
        found = Job(began, list(self._seen))
        end = next(event for _, event in found.events if isinstance(event, END_EVENTS))
        if not isinstance(end, Completed):
            raise RuntimeError(f"The engine ended the job with {end}")
        return found

    def backbone(self, checkpoint: Path) -> UnetModel:
        """The loaded model."""
        brought = self.manager.bring(chosen(FileRef(name=checkpoint.stem, path=str(checkpoint))))
        assert isinstance(brought.backbone, UnetModel)
        return brought.backbone

    def close(self) -> None:
        self._engine.close()
        self.manager.unload()


class Job:
    """A completed job's events. began: when it was submitted, in the seconds of time.perf_counter."""

    def __init__(self, began: float, events: list[tuple[float, Event]]) -> None:
        self.began, self.events = began, events

    def first(self, kind: type[Kind], accept: Callable[[Kind], bool] = lambda _: True) -> tuple[float, Kind]:
        """The first event of a kind, and how many seconds after the submission it came."""
        for when, event in self.events:
            if isinstance(event, kind) and accept(event):
                return when - self.began, event
        raise LookupError(kind.__name__)
