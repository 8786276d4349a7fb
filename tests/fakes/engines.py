"""An engine without torch, quick enough to be killed often; the words of a prompt say what it does.

"slow": 20 ms a step; "endless": steps until interrupted; "spin": computes without ever looking up; "die": the process
ends with status 3; "raise": the engine raises; "print": prints to standard output and to its descriptor; "large":
pictures of 24 MB; "png": real pictures; "odd": an event that nobody else knows; "mute": one that no frame can carry;
"stuck": the third step never ends.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from queue import SimpleQueue

from modules.core import job as events
from modules.core.generation import GenerationPlan
from modules.core.job import EngineOptions, EngineStatus, OnEvent

LARGE = 24_000_001  # bytes, more than any pipe holds


@dataclass(frozen=True, kw_only=True)
class Odd(events.Event):
    """Of a kind that only this engine knows."""

    thing: object = 1


class TinyEngine:
    """Makes "pictures" that are the seed's digits."""

    def __init__(self, options: EngineOptions, on_event: OnEvent) -> None:
        self._options = options
        self._tell = on_event
        self._jobs: SimpleQueue[tuple[str, GenerationPlan] | None] = SimpleQueue()
        self._interrupted: set[str] = set()
        self._skipped: set[str] = set()
        self._closed = False
        self._device = "cpu" if options.device == "auto" else options.device
        self._loaded: tuple[str, ...] = ()

    def run(self) -> None:
        while (taken := self._jobs.get()) is not None and not self._closed:
            self._make(*taken)

    def submit(self, job: str, plan: GenerationPlan) -> None:
        self._tell(events.Queued(job=job))
        self._jobs.put((job, plan))

    def interrupt(self, job: str) -> None:
        self._interrupted.add(job)

    def skip(self, job: str) -> None:
        self._skipped.add(job)

    def configure(self, options: EngineOptions) -> None:
        self._options = options

    def unload(self) -> None: ...

    def status(self) -> EngineStatus:
        return EngineStatus(
            state="idle", device=self._device, device_name="Tiny", dtype="float32", memory_used=1, memory_total=2,
            loaded=self._loaded, options=self._options,
        )  # fmt: skip

    def close(self) -> None:
        self._closed = True
        self._jobs.put(None)

    def _make(self, job: str, plan: GenerationPlan) -> None:
        if job in self._interrupted:
            self._tell(events.Interrupted(job=job))
            return
        words = set(plan.prompt.split())
        self._tell(events.ModelLoading(job=job, checkpoint=plan.checkpoint.name))
        _misbehave(words)
        if words & {"odd", "mute"}:
            self._tell(Odd(job=job, thing=object() if "mute" in words else 1))
        name = plan.checkpoint.name
        self._loaded = (name,)
        self._tell(
            events.ModelReady(
                job=job, checkpoint=name, seconds=0.0, source="resident", device=self._device, dtype="float32"
            )
        )
        for index, seed in enumerate(plan.seeds):
            self._tell(events.Started(job=job, index=index, seed=seed, sigmas=(14.0, 0.0), payload=b"noise"))
            step = 0
            while step < plan.steps or "endless" in words:
                step += 1
                while "stuck" in words and step > 2:
                    time.sleep(0.01)
                time.sleep(0.02 if words & {"slow", "endless"} else 0)
                if job in self._interrupted or self._closed:
                    self._tell(events.Interrupted(job=job))
                    return
                if job in self._skipped:
                    break
                seconds = step * 0.02
                self._tell(events.Step(job=job, index=index, step=step, steps=plan.steps, sigma=1.0, seconds=seconds))
            if job in self._skipped:
                self._skipped.discard(job)
                continue
            picture = _picture(words, plan, seed)
            self._tell(
                events.ImageReady(
                    job=job, index=index, seed=seed, width=plan.width, height=plan.height, seconds=0.1,
                    device="cpu", dtype=f"{self._options.preview_ms}", payload=picture,
                )
            )  # fmt: skip
        self._tell(events.Completed(job=job, seconds=0.1))


class BrokenEngine(TinyEngine):
    """Cannot be made."""

    def __init__(self, options: EngineOptions, on_event: OnEvent) -> None:
        raise RuntimeError("the driver is too old")


class DyingEngine(TinyEngine):
    """Takes its process with it as soon as it works."""

    def run(self) -> None:
        os.write(2, b"segmentation fault in a driver\n")
        os._exit(3)


def _picture(words: set[str], plan: GenerationPlan, seed: int) -> bytes:
    if "large" in words:
        return bytes(LARGE)
    if "png" in words:
        from modules.imaging.encode import encode_png

        return encode_png(bytes([seed % 256]) * (plan.width * plan.height * 3), (plan.width, plan.height))
    return str(seed).encode()


def _misbehave(words: set[str]) -> None:
    if "print" in words:
        print("INF1 this is not a frame")
        os.write(1, b"nor is this\n")
    if "die" in words:
        os.write(2, b"last words\n")
        os._exit(3)
    if "raise" in words:
        raise RuntimeError("an engine that gives up")
    while "spin" in words:
        sum(range(1000))
