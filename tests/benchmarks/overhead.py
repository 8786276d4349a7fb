"""What the engine and the whole app cost beside the model's own time, at Stable Diffusion 1.5's size.

    python -m tests.benchmarks.overhead [--size 256] [--steps 4] [--runs 3] [--device cpu]

(wall - model time) / wall per picture: model time is what text encoder, UNet and VAE took, as the engine's stopwatch
counts it. Three ways take turns on one checkpoint with random weights: the bare loop of the same modules, the engine in
this process, and the app with its worker process, queue and history. Every turn has a prompt that was not seen before.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from modules.app import App, AppConfig, build_app
from modules.backbones.encoders.clip import clip_tokenizer
from modules.core.generation import GenerationPlan
from modules.core.job import Completed, EngineOptions, EngineStatus, Event, ImageReady, OnEvent
from modules.executors.worker import WorkerExecutor
from modules.schedules.uniform import normal
from modules.services.views import ENDED
from tests.benchmarks import harness
from tests.benchmarks.bare import Bare
from tests.benchmarks.inline import InlineEngine, plan

LIMIT = 0.02


class Listening:
    """An executor that lets someone look at the last end of a job."""

    def __init__(self, inner: WorkerExecutor) -> None:
        self._inner = inner
        self.completed: Completed | None = None

    def start(self, on_event: OnEvent) -> None:
        def heard(event: Event) -> None:
            if isinstance(event, Completed):
                self.completed = event
            on_event(event)

        self._inner.start(heard)

    def submit(self, job: str, plan: GenerationPlan) -> None:
        self._inner.submit(job, plan)

    def interrupt(self, job: str) -> None:
        self._inner.interrupt(job)

    def skip(self, job: str) -> None:
        self._inner.skip(job)

    def configure(self, options: EngineOptions) -> None:
        self._inner.configure(options)

    def unload(self) -> None:
        self._inner.unload()

    def status(self) -> EngineStatus:
        return self._inner.status()

    def close(self) -> None:
        self._inner.close()


class Ways:
    """The three ways to make a picture. shares: (wall - model time) / wall of every turn; pictures: the last ones."""

    def __init__(self, file: Path, engine: InlineEngine, app: App, listening: Listening, *, side: int, steps: int):
        self._file, self._engine, self._app, self._listening = file, engine, app, listening
        self._side, self._steps = side, steps
        self._bare = Bare(engine.backbone(file), clip_tokenizer())
        self._sigmas = tuple(normal.run(steps, engine.backbone(file).noise_levels(side, side)))
        self._turns = {name: itertools.count() for name in ("bare", "engine", "app")}
        self.shares: dict[str, list[float]] = {"engine": [], "app": []}
        self.pictures: dict[str, Tensor] = {}

    def _plan(self, way: str) -> GenerationPlan:
        turn = next(self._turns[way])
        text, negative = f"a red apple, number {turn}", f"blurry, number {turn}"
        return plan(self._file, side=self._side, steps=self._steps, prompt=text, negative=negative)

    def bare(self) -> None:
        asked = self._plan("bare")
        self.pictures["bare"] = self._bare.pictures(
            asked.prompt, asked.negative_prompt, asked.seeds, side=self._side, sigmas=self._sigmas, cfg_scale=7.0
        )[0]

    def engine(self) -> None:
        asked = self._plan("engine")
        began = time.perf_counter()
        job = self._engine.run(asked)
        wall = time.perf_counter() - began
        _, completed = job.first(Completed)
        self.shares["engine"].append((wall - completed.model_seconds) / wall)
        self.pictures["engine"] = harness.pixels(job.first(ImageReady)[1].payload)

    def app(self) -> None:
        asked = self._plan("app")
        began = time.perf_counter()
        with self._app.jobs.subscribe() as watching:
            view = self._app.jobs.submit_plan(asked)
            while view.state not in ENDED:
                view = watching.get(timeout=600.0) or view
        wall = time.perf_counter() - began
        if view.state != "completed" or self._listening.completed is None:
            raise RuntimeError(f"The app ended the job with {view.error}")
        self.shares["app"].append((wall - self._listening.completed.model_seconds) / wall)
        saved = view.images[0].picture
        assert saved is not None
        self.pictures["app"] = harness.pixels(self._app.history.file(saved).read_bytes())


@contextmanager
def opened(folder: Path, options: EngineOptions) -> Iterator[tuple[App, Listening]]:
    """The app with its worker process, in an empty folder."""
    listening = Listening(WorkerExecutor(options, log_path=folder / "worker.log"))
    with build_app(AppConfig(data_dir=folder, engine=options), executor=listening) as app:
        yield app, listening


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=3)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side (default %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="Euler steps (default %(default)s)")
    parser.add_argument("--device", default="cpu", help='where it computes, "auto" for the best (default %(default)s)')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = harness.machine()
    engine_options = EngineOptions(device=options.device, threads=options.threads)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "models" / "Stable-diffusion").mkdir(parents=True)
        file = harness.write_sd15(folder / "models" / "Stable-diffusion" / "random.safetensors")
        engine = InlineEngine(engine_options)
        with opened(folder, engine_options) as (app, listening):
            ways = Ways(file, engine, app, listening, side=options.size, steps=options.steps)
            turns = {"bare": ways.bare, "engine": ways.engine, "app": ways.app}
            times = harness.alternate(turns, runs=options.runs)
        engine.close()
    rows = []
    for way, title in (("bare", "bare loop"), ("engine", "engine"), ("app", "whole app, worker process")):
        share = statistics.median(ways.shares[way][1:]) if way in ways.shares else None
        error = harness.difference(ways.pictures[way], ways.pictures["bare"]) / 255
        rows.append(
            {
                "": title,
                "wall s": times[way].wall,
                "to bare": times[way].wall / times["bare"].wall,
                "overhead": "" if share is None else f"{share:.4f}",
                "limit": "" if share is None else f"at most {LIMIT}",
                "kept": "" if share is None else "yes" if share <= LIMIT else "**no**",
                "error": error,
            }
        )
    title = f"One picture, {options.size} x {options.size}, {options.steps} steps, median of {options.runs}"
    harness.report(title, rows, facts={**facts, "device": options.device}, output=options.json)


if __name__ == "__main__":
    main()
