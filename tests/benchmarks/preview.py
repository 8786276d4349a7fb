"""When the first preview comes, and what previews cost.

    python -m tests.benchmarks.preview [--size 256] [--steps 20] [--runs 20]

The starter, with a preview at every step (as far as the engine allows that), with as many as the first settings ask
for, and twice without, in turns that begin with another one each time, in one engine: two engines of the same model
differ by 3 % by where their weights lie. Delay: from the end of the first step to the first preview, so that "a step
and 50 ms after the start" is 50 ms here; the picture right after the model was loaded is told apart. Cost: a picture's
mean time between steps over that of the run without previews beside it, median of all runs; what the second run without
previews shows is the error of the measurement. Error: the largest difference between the finished pictures, of 1.0.
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


def _options(preview_ms: int) -> EngineOptions:
    return EngineOptions(device="cpu", preview_ms=preview_ms, trace=False)


class Timed:
    """An engine and when its events came."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []
        self.engine = Engine(_options(1), self._take)

    def _take(self, event: Event) -> None:
        self.events.append((time.perf_counter(), event))

    def run(self, plan: GenerationPlan, preview_ms: int) -> None:
        """One picture, with a preview every `preview_ms` milliseconds, 0 for none."""
        self.engine.configure(_options(preview_ms))
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
    parser = harness.arguments(__doc__ or "", runs=20)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side (default %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="Euler steps (default %(default)s)")
    options = parser.parse_args()
    facts = harness.machine()
    plan = replace(PLAN, steps=options.steps, width=options.size, height=options.size)
    usual = EngineOptions().preview_ms
    ways = {"every step": 1, "usual": usual, "twin": 0, "none": 0}
    timed = Timed()
    timed.run(plan, 1)
    cold = timed.delay_ms()
    first_step = 1000 * (timed.first(Step) - timed.first(Started))
    delays: list[float] = []
    means: dict[str, list[float]] = {name: [] for name in ways}
    pictures: dict[str, bytes] = {}
    names = tuple(ways)
    for turn in range(options.runs):
        begin = turn % len(names)
        for name in names[begin:] + names[:begin]:
            timed.run(plan, ways[name])
            means[name].append(statistics.mean(timed.step_ms()))
            pictures[name] = timed.picture()
            if name == "every step":
                delays.append(timed.delay_ms())
    error = max(harness.pixel_difference(picture, pictures["none"]) for picture in pictures.values())
    timed.engine.close()
    costs = {
        name: 100 * (statistics.median(a / b for a, b in zip(means[name], means["none"], strict=True)) - 1)
        for name in ways
    }  # of runs side by side, so that a busy moment counts for both
    rows = [
        against("right after loading: first step", first_step, unit="ms"),
        against("... and from its end to the first preview", cold, unit="ms", at_most=DELAY_MS),
        against("later pictures: from the first step's end to the first preview", statistics.median(delays), unit="ms",
                at_most=DELAY_MS),
        against("a step without previews", statistics.median(means["none"]), unit="ms"),
        against(f"what previews every {usual} ms, as set at first, add to it", costs["usual"], unit="%",
                at_most=COST_PERCENT),
        against("what as many as the engine allows add to it", costs["every step"], unit="%", at_most=COST_PERCENT),
        against("what the same without previews adds: the error of these figures", costs["twin"], unit="%"),
        against("error: finished pictures with and without", error, at_most=0.0),
    ]  # fmt: skip
    title = f"Previews, starter at {options.size} x {options.size}, {options.runs} x {options.steps} steps in turns"
    harness.report(title, rows, facts=facts, output=options.json)


if __name__ == "__main__":
    main()
