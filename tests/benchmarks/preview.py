"""When the first preview comes, and what previews cost.

    python -m tests.benchmarks.preview [--size 256] [--steps 12] [--runs 10]

The starter, with a preview at every step and without, in turns, in two engines. Delay: from the end of the first step
to the first preview, so that "a step and 50 ms after the start" is 50 ms here; the picture right after the model was
loaded is told apart. Cost: the time between steps with previews over that without, medians of all steps of all runs.
Error: the largest difference between the finished pictures of both, of 1.0.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from itertools import pairwise

from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import EngineOptions, Event, ImageReady, Preview, Started, Step
from modules.engine.engine import Engine
from tests.benchmarks import harness
from tests.benchmarks.tables import against

STARTER = FileRef(name="inferenz-starter", path="models/Stable-diffusion/inferenz-starter.safetensors")
PLAN = GenerationPlan(
    checkpoint=STARTER, family="sd1", prompt="a red apple", negative_prompt="", clip_skip=1, sampler="euler",
    schedule="karras", steps=8, width=256, height=256, cfg_scale=4.0, seeds=(1,),
)  # fmt: skip
DELAY_MS, COST_PERCENT = 50.0, 1.0


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

    def delay_ms(self) -> float:
        return 1000 * (self.first(Preview) - self.first(Step))

    def step_ms(self) -> list[float]:
        """Of the picture's steps but the first."""
        at = [at for at, event in self.events if isinstance(event, Step)]
        return [1000 * (b - a) for a, b in pairwise(at)]

    def picture(self) -> bytes:
        return next(event.payload for _, event in self.events if isinstance(event, ImageReady))


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=10)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side (default %(default)s)")
    parser.add_argument("--steps", type=int, default=12, help="Euler steps (default %(default)s)")
    options = parser.parse_args()
    facts = harness.machine()
    plan = replace(PLAN, steps=options.steps, width=options.size, height=options.size)
    shown, plain = Timed(1), Timed(0)
    shown.run(plan)
    plain.run(plan)
    cold = shown.delay_ms()
    first_step = 1000 * (shown.first(Step) - shown.first(Started))
    delays: list[float] = []
    steps: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(options.runs):
        for name, timed in (("with", shown), ("without", plain)):
            timed.run(plan)
            steps[name] += timed.step_ms()
        delays.append(shown.delay_ms())
    error = harness.pixel_difference(shown.picture(), plain.picture())
    shown.engine.close()
    plain.engine.close()
    with_, without = (statistics.median(steps[name]) for name in ("with", "without"))
    rows = [
        against("right after loading: first step", first_step, unit="ms"),
        against("... and from its end to the first preview", cold, unit="ms", at_most=DELAY_MS),
        against("later pictures: from the first step's end to the first preview", statistics.median(delays), unit="ms",
                at_most=DELAY_MS),
        against("a step without previews", without, unit="ms"),
        against("what a preview at every step adds to it", 100 * (with_ / without - 1), unit="%", at_most=COST_PERCENT),
        against("error: finished pictures with and without", error, at_most=0.0),
    ]  # fmt: skip
    title = f"Previews, starter at {options.size} x {options.size}, {options.runs} x {options.steps} steps in turns"
    harness.report(title, rows, facts=facts, output=options.json)


if __name__ == "__main__":
    main()
