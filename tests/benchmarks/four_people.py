"""Four people at once against the same four one after another, in turns.

    python -m tests.benchmarks.four_people [--people 4] [--size 128] [--steps 20] [--runs 5] [--sd15]

Mean end: seconds from the common start until a picture is there, over all four; somebody who is served third has waited
since the start, too. Turns: passes of the engine until everybody's first step, less the one that encodes the texts.
Error: the largest difference of a picture made in company from the same made alone, of 1.0. --sd15: random weights of
Stable Diffusion 1.5's size instead of the starter.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import Completed, EngineOptions, Event, ImageReady, Step
from modules.engine.engine import Engine
from tests.benchmarks import harness
from tests.benchmarks.preview import PLAN
from tests.benchmarks.tables import against

ERROR = 1 / 255  # one level: PSNR of a picture whose every value is off by it is 48 dB
RATIO = 1.0


@dataclass(frozen=True)
class Gathering:
    """Seconds from the start: ends, and first steps; passes: turns of the engine until everyone's first step."""

    ends: list[float]
    firsts: list[float]
    passes: int
    pictures: Mapping[str, bytes]


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
        pictures = {event.job: event.payload for _, event in self._events if isinstance(event, ImageReady)}
        return Gathering(ends, firsts, passes, pictures)

    def close(self) -> None:
        self._engine.close()


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=5)
    parser.add_argument("--people", type=int, default=4, help="how many (default %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side (default %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="Euler steps (default %(default)s)")
    parser.add_argument("--sd15", action="store_true", help="random weights of Stable Diffusion 1.5's size")
    options = parser.parse_args()
    facts = harness.machine()
    plan = replace(PLAN, steps=options.steps, width=options.size, height=options.size)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if options.sd15:
            file = harness.write_sd15(Path(folder) / "sd15.safetensors")
            plan = replace(plan, checkpoint=FileRef(name="sd15", path=str(file)))
        rows = measure([replace(plan, seeds=(number,)) for number in range(options.people)], options.runs)
    model = "Stable Diffusion 1.5's size" if options.sd15 else "the starter"
    title = (
        f"{options.people} people, {model}, {options.size} x {options.size}, {options.steps} steps, "
        f"median of {options.runs}"
    )
    harness.report(title, rows, facts=facts, output=options.json)


def measure(plans: Sequence[GenerationPlan], runs: int) -> list[dict[str, object]]:
    house = House()
    house.gather(plans[:1], together=True)
    pairs = []
    for _ in range(runs):
        alone, company = (house.gather(plans, together=together) for together in (False, True))
        pairs.append((alone, company))
    house.close()
    last_alone, last_company = pairs[-1]
    error = max(
        harness.pixel_difference(last_alone.pictures[job], last_company.pictures[job]) for job in last_alone.pictures
    )
    ratio = statistics.median(
        statistics.mean(company.ends) / statistics.mean(alone.ends) for alone, company in pairs
    )  # of pairs that were measured side by side, so that a busy moment counts for both
    return [
        against("mean end, one after another", statistics.median(statistics.mean(a.ends) for a, _ in pairs), unit="s"),
        against("mean end, at once", statistics.median(statistics.mean(c.ends) for _, c in pairs), unit="s"),
        against("... ratio", ratio, at_most=RATIO),
        against("turns until everybody's first step", max(c.passes for _, c in pairs), at_most=2 * len(plans)),
        against("seconds until then", statistics.median(max(c.firsts) for _, c in pairs), unit="s"),
        against("error of a picture made in company", error, at_most=ERROR),
    ]


if __name__ == "__main__":
    main()
