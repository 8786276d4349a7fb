"""When the first preview comes, and what previews cost.

    python -m tests.benchmarks.preview [--size 256] [--steps 8] [--runs 5]

The starter, with previews at every step and without, alternately in two engines. Delay: from the end of the first step
to the first preview; that of the very first picture after the model was loaded is told apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from itertools import pairwise

from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import EngineOptions, Event, Preview, Started, Step
from modules.engine.engine import Engine

STARTER = FileRef(name="inferenz-starter", path="models/Stable-diffusion/inferenz-starter.safetensors")
PLAN = GenerationPlan(
    checkpoint=STARTER, family="sd1", prompt="a red apple", negative_prompt="", clip_skip=1, sampler="euler",
    schedule="karras", steps=8, width=256, height=256, cfg_scale=4.0, seeds=(1,),
)  # fmt: skip


class Timed:
    """An engine and when its events came."""

    def __init__(self, preview_ms: int) -> None:
        self.events: list[tuple[float, Event]] = []
        self.engine = Engine(EngineOptions(device="cpu", preview_ms=preview_ms, trace=False), self._take)

    def _take(self, event: Event) -> None:
        self.events.append((time.perf_counter(), event))

    def run(self, plan: GenerationPlan) -> None:
        """One picture."""
        self.events.clear()
        self.engine.submit("j", plan)
        while self.engine.tick():
            pass
        self.engine.settle()

    def first(self, kind: type[Event]) -> float:
        return next(at for at, event in self.events if isinstance(event, kind))

    def step_seconds(self) -> float:
        """Median of the picture's steps but the first."""
        at = [at for at, event in self.events if isinstance(event, Step)]
        return statistics.median(b - a for a, b in pairwise(at))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    plan = replace(PLAN, steps=options.steps, width=options.size, height=options.size)
    shown, plain = Timed(1), Timed(0)
    delays: list[float] = []
    steps: dict[str, list[float]] = {"with": [], "without": []}
    for run in range(options.runs + 1):
        shown.run(plan)
        plain.run(plan)
        delays.append(1000 * (shown.first(Preview) - shown.first(Step)))
        if run == 0:
            to_step = 1000 * (shown.first(Step) - shown.first(Started))
            print(
                f"first picture: step 1 {to_step:.0f} ms after the start, preview {delays[0]:.0f} ms later", flush=True
            )
        else:
            steps["with"].append(shown.step_seconds())
            steps["without"].append(plain.step_seconds())
    with_, without = (statistics.median(steps[name]) for name in ("with", "without"))
    print(f"later pictures: preview {statistics.median(delays[1:]):.0f} ms after the first step")
    print(f"a step: {1000 * with_:.1f} ms with previews, {1000 * without:.1f} ms without: {with_ / without - 1:+.1%}")
    shown.engine.close()
    plain.engine.close()


if __name__ == "__main__":
    main()
