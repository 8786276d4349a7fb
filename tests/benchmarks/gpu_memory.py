"""On a CUDA device that may use 8, 6 or 4 GB of its memory: which memory mode is chosen, and what it costs.

    python -m tests.benchmarks.gpu_memory [--caps 8 6 4] [--size 512] [--steps 20] [--runs 3]
    python -m tests.benchmarks.gpu_memory --family sdxl --size 1024 --steps 30 --compiled

The caps are torch's (set_per_process_memory_fraction): an allocation beyond one fails as on a smaller card. Per cap and
mode: seconds of a whole picture and of a step, bytes that the estimate told and that torch had at most, and the
difference from the picture of the whole model on the device. "auto" is what the engine chooses. Then decoding alone,
whole and in tiles; its limit is what the device takes for as much work in large matrix products.
--family: of a random checkpoint, or of --file. --compiled: without a cap the denoiser is compiled as well. Without a
CUDA device the table says so.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from modules.backbones.loaded import Loaded
from modules.core.generation import GenerationPlan
from modules.core.job import EngineOptions, ImageReady, Notice
from modules.engine.estimate import Work
from modules.engine.manager import Brought
from modules.engine.room import loaded_weights
from tests.benchmarks import harness
from tests.benchmarks.families import FAMILIES, written
from tests.benchmarks.gpu import NO_DEVICE
from tests.benchmarks.inline import InlineEngine, Job, plan

Asked = Literal["auto", "normal", "medium", "low"]
MODES: tuple[Asked, ...] = ("auto", "normal", "medium", "low")
GB = 1 << 30
SIDE = 8192  # of a matrix that keeps a device busy
DECODE_FLOPS = 2.52e12 / 512**2  # per pixel, of Stable Diffusion's VAE (1 and XL alike)


def capped(gigabytes: float | None) -> None:
    """Let torch use so much of the first device, or all of it."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0 if gigabytes is None else min(1.0, gigabytes * GB / total), 0)


class Card:
    """Pictures of one checkpoint under caps. reference: the picture of the whole model without a cap."""

    def __init__(self, options: argparse.Namespace, file: Path) -> None:
        self._options, self._file = options, file
        self._numbers = itertools.count()
        self.reference = b""

    def row(self, cap: float | None, mode: Asked, *, compiled: bool = False) -> dict[str, object]:
        """One line of the table. compiled: the denoiser is, before it is timed."""
        capped(cap)
        engine = InlineEngine(EngineOptions(device="cuda", vram=mode, preview_ms=0, trace=False))
        what: dict[str, object] = {"GB": cap or "all", "asked": "compiled" if compiled else mode}
        try:
            if compiled:
                backbone = self._brought(engine).backbone
                assert isinstance(backbone, Loaded)
                backbone._parts[0].compile()  # in place: the engine holds this very module
            return {**what, **self._measured(engine)}
        except RuntimeError as error:  # the engine's own words are in it
            return {**what, "result": str(error)[:80]}
        finally:
            torch.cuda.synchronize()
            engine.close()

    def _measured(self, engine: InlineEngine) -> dict[str, object]:
        seconds, job = self._timed(engine)
        most = torch.cuda.max_memory_allocated()
        one = _median(lambda: self._picture(engine, steps=1), self._options.runs)
        brought = self._brought(engine)
        picture = job.first(ImageReady)[1].payload
        self.reference = self.reference or picture
        notices = [event.text for _, event in job.events if isinstance(event, Notice)]
        return {
            "mode": brought.backbone.placement.vram, "s": seconds,
            "s/it": (seconds - one) / max(1, self._options.steps - 1),
            "weights GB": loaded_weights(brought.backbone).total / GB,
            "told GB": brought.fit.choice.needed / GB, "most GB": most / GB,
            "error": harness.pixel_difference(picture, self.reference), "notices": len(notices),
        }  # fmt: skip

    def decoding(self) -> list[dict[str, object]]:
        """Seconds and memory of decoding alone."""
        capped(None)
        engine = InlineEngine(EngineOptions(device="cuda", preview_ms=0, trace=False))
        backbone = self._brought(engine).backbone
        side = self._options.size // backbone.downscale
        latent = torch.randn(1, backbone.latent_channels, side, side, device="cuda")
        rows: list[dict[str, object]] = []
        limit = DECODE_FLOPS * self._options.size**2 / matrix_flops(backbone.placement.vae_dtype)
        for tiled in (False, True):

            def decode(tiled: bool = tiled) -> None:
                backbone.decode(latent, tiled=tiled)
                torch.cuda.synchronize()

            decode()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            seconds = _median(decode, self._options.runs)
            most = torch.cuda.max_memory_allocated() - before
            asked = "decode in tiles" if tiled else "decode whole"
            rows.append({"asked": asked, "s": seconds, "limit s": limit, "most GB": most / GB})
        engine.close()
        return rows

    def _timed(self, engine: InlineEngine) -> tuple[float, Job]:
        self._picture(engine)  # the first one loads
        torch.cuda.reset_peak_memory_stats()
        seconds = _median(lambda: self._picture(engine), self._options.runs)
        return seconds, self._picture(engine, "the same apple")

    def _picture(self, engine: InlineEngine, prompt: str = "", *, steps: int = 0) -> Job:
        return engine.run(self.order(prompt or f"a red apple, number {next(self._numbers)}", steps=steps))

    def order(self, prompt: str, *, steps: int = 0) -> GenerationPlan:
        """The plan of one picture. steps: 0 for as many as were asked for."""
        asked = self._options
        return plan(
            self._file, side=asked.size, steps=steps or asked.steps, prompt=prompt, family=asked.family
        )  # fmt: skip

    def _brought(self, engine: InlineEngine) -> Brought:
        """The very model that the pictures are made with, and how their work fits."""
        side = self._options.size
        return engine.manager.bring(self.order("").model, Work(width=side, height=side))


def matrix_flops(dtype: torch.dtype) -> float:
    """Floating-point operations per second of products of large matrices on the first device."""
    one, other = (torch.randn(SIDE, SIDE, device="cuda").to(dtype) for _ in range(2))

    def products() -> None:
        for _ in range(10):
            one @ other
        torch.cuda.synchronize()

    products()
    return 10 * 2 * SIDE**3 / _median(products, 5)


def _median(run: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=3)
    parser.add_argument("--caps", type=float, nargs="+", default=[8, 6, 4], help="GB (default %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="pixels of a side (default %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="Euler steps (default %(default)s)")
    parser.add_argument("--compiled", action="store_true", help="time the compiled denoiser, too")
    parser.add_argument("--file", type=Path, help="a checkpoint (default: a random one)")
    parser.add_argument("--family", default="sd1", help="of that file, or of a random one (default %(default)s)")
    options = parser.parse_args()
    if not options.file and options.family not in FAMILIES:
        parser.error(f"--family {options.family} needs --file: random ones are made of {', '.join(FAMILIES)}")
    facts = harness.machine()
    title = f"Memory modes on a CUDA device, {options.size} x {options.size}, {options.steps} steps"
    if not torch.cuda.is_available():
        harness.report(title, [{"result": NO_DEVICE}], facts=facts, output=options.json)
        return
    facts["device"] = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        card = Card(options, options.file or written(options.family, Path(folder), "float16"))
        rows = [card.row(None, "normal")]
        if options.compiled:
            rows.append(card.row(None, "normal", compiled=True))
        rows += [card.row(cap, mode) for cap in options.caps for mode in MODES]
        rows += card.decoding()
    capped(None)
    harness.report(title, rows, facts=facts, output=options.json)


if __name__ == "__main__":
    main()
