"""Four people at once against the same four one after another, alternately.

    python -m tests.benchmarks.four_people [--people 4] [--size 128] [--steps 20] [--runs 3] [--sd15]

Reports how many passes and seconds each waits for the first step, and the mean end against one after another (at most
1 is wanted). --sd15: random weights of Stable Diffusion 1.5's size instead of the starter.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import Completed, EngineOptions, Event, Step
from modules.engine.engine import Engine
from tests.benchmarks import harness
from tests.benchmarks.preview import PLAN


@dataclass(frozen=True)
class Gathering:
    """Seconds from the start: ends, and first steps; passes: turns of the engine until everyone's first step."""

    ends: list[float]
    firsts: list[float]
    passes: int


class House:
    """One engine for all."""

    def __init__(self) -> None:
        self._events: list[tuple[float, Event]] = []
        self._engine = Engine(EngineOptions(device="cpu", preview_ms=0, trace=False), self._take)

    def _take(self, event: Event) -> None:
        self._events.append((time.perf_counter(), event))

    def gather(self, plans: Sequence[GenerationPlan], *, together: bool) -> Gathering:
        """All at once, or each when the one before has ended; everybody has waited since the start."""
        self._events.clear()
        began = time.perf_counter()
        passes = 0
        if together:
            for number, plan in enumerate(plans):
                self._engine.submit(str(number), plan)
        for number, plan in enumerate(plans):
            if not together:
                self._engine.submit(str(number), plan)
            while self._engine.tick():
                begun = {event.job for _, event in self._events if isinstance(event, Step)}
                passes += len(begun) < len(plans)
        self._engine.settle()
        ends = [at - began for at, event in self._events if isinstance(event, Completed)]
        firsts = [at - began for at, event in self._events if isinstance(event, Step) and event.step == 1]
        return Gathering(ends, firsts, passes)

    def close(self) -> None:
        self._engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sd15", action="store_true")
    options = parser.parse_args()
    plan = replace(PLAN, steps=options.steps, width=options.size, height=options.size)
    with tempfile.TemporaryDirectory() as folder:
        if options.sd15:
            file = harness.write_sd15(Path(folder) / "sd15.safetensors")
            plan = replace(plan, checkpoint=FileRef(name="sd15", path=str(file)))
        measure([replace(plan, seeds=(number,)) for number in range(options.people)], options.runs)


def measure(plans: Sequence[GenerationPlan], runs: int) -> None:
    house = House()
    house.gather(plans[:1], together=True)
    ratios, passes, firsts = [], [], []
    for _ in range(runs):
        one_by_one, at_once = (house.gather(plans, together=together) for together in (False, True))
        ratios.append(statistics.mean(at_once.ends) / statistics.mean(one_by_one.ends))
        passes.append(at_once.passes + 1)
        firsts.append(max(at_once.firsts))
        print(
            f"mean end {statistics.mean(one_by_one.ends):.2f} s one after another, "
            f"{statistics.mean(at_once.ends):.2f} s at once: {ratios[-1]:.3f}; "
            f"all first steps after {firsts[-1]:.2f} s and {passes[-1]} turns (one of them encodes the texts)",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.3f}")
    house.close()


if __name__ == "__main__":
    main()
