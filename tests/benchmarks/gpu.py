"""On a CUDA device: steps per second at Stable Diffusion 1.5's size, the engine against the bare loop.

    python -m tests.benchmarks.gpu [--size 512] [--steps 20] [--runs 3] [--batches 1 2 4 8]

Whole pictures are timed, text encoding and decoding included, for both alike; it/s is steps / wall, and every step
answers `batch` pictures with guidance (two rows each). Compiled: the same UNet after torch.compile. Error: the largest
difference of the engine's pictures from the bare loop's, of 1.0. Without a CUDA device the table says so.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from modules.backbones.encoders.clip import clip_tokenizer
from modules.core.job import EngineOptions, ImageReady
from modules.schedules.uniform import normal
from tests.benchmarks import harness
from tests.benchmarks.bare import Bare
from tests.benchmarks.inline import InlineEngine, plan

NO_DEVICE = "This machine has no CUDA device: nothing was measured."


class Race:
    """The two ways to make `batch` pictures with one loaded model."""

    def __init__(self, engine: InlineEngine, file: Path, *, side: int, steps: int, batch: int) -> None:
        self._engine, self._file, self._side, self._steps = engine, file, side, steps
        self._seeds = tuple(range(1, batch + 1))
        backbone = engine.backbone(file)
        self._bare = Bare(backbone, clip_tokenizer())
        self._sigmas = tuple(normal.run(steps, backbone.noise_levels(512, 512)))
        self._turns = {"bare": itertools.count(), "engine": itertools.count()}
        self.pictures: dict[str, Tensor] = {}

    def _prompt(self, way: str) -> str:
        return f"a red apple, number {next(self._turns[way])}"

    def bare(self) -> None:
        self.pictures["bare"] = self._bare.pictures(
            self._prompt("bare"), "blurry", self._seeds, side=self._side, sigmas=self._sigmas, cfg_scale=7.0
        )

    def engine(self) -> None:
        wanted = plan(self._file, side=self._side, steps=self._steps, prompt=self._prompt("engine"), seeds=self._seeds)
        job = self._engine.run(wanted)
        ready = {event.index: event for _, event in job.events if isinstance(event, ImageReady)}
        self.pictures["engine"] = torch.stack([harness.pixels(ready[index].payload) for index in sorted(ready)])

    def compare(self, runs: int) -> tuple[float, float, float]:
        """Steps per second of the bare loop and of the engine, and the largest difference of their pictures."""
        times = harness.alternate({"bare": self.bare, "engine": self.engine}, runs=runs, warm=2)
        error = harness.difference(self.pictures["engine"], self.pictures["bare"]) / 255
        return self._steps / times["bare"].wall, self._steps / times["engine"].wall, error


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=3)
    parser.add_argument("--size", type=int, default=512, help="pixels of a side (default %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="Euler steps (default %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8], help="pictures side by side")
    options = parser.parse_args()
    facts = harness.machine()
    title = f"it/s on a CUDA device, {options.size} x {options.size}, {options.steps} steps, median of {options.runs}"
    if not torch.cuda.is_available():
        harness.report(title, [{"result": NO_DEVICE}], facts=facts, output=options.json)
        return
    facts["device"] = torch.cuda.get_device_name()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = harness.write_sd15(Path(folder) / "random.safetensors")
        engine = InlineEngine(EngineOptions(device="cuda", max_batch_rows=2 * max(options.batches)))
        for compiled in (False, True):
            if compiled:
                engine.backbone(file)._unet.compile()  # in place: the engine holds this very module
            for batch in options.batches:
                race = Race(engine, file, side=options.size, steps=options.steps, batch=batch)
                bare, ours, error = race.compare(options.runs)
                row = {"UNet": "compiled" if compiled else "eager", "batch": batch, "bare it/s": bare}
                rows.append({**row, "engine it/s": ours, "ratio": ours / bare, "error": error})
        facts["dtype"] = str(engine.manager.placement.dtype).removeprefix("torch.")
        engine.close()
    harness.report(title, rows, facts=facts, output=options.json)


if __name__ == "__main__":
    main()
