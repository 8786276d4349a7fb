"""Swapping between two checkpoints of 2 GB: how long until the model answers, and what memory is left behind.

    python -m tests.benchmarks.swap [--size 64] [--runs 5] [--swaps 50] [--dtype float32] [--full]
    python -m tests.benchmarks.swap --files A.safetensors B.safetensors [C.safetensors ...]

The files are in the compute dtype: on the CPU float32, in Stable Diffusion 1's architecture with a UNet six tenths as
wide, so that one is 2.08 GB (--full: Stable Diffusion 1.5's own widths, 4.3 GB each). A swap's time is that from the
request to the first prediction of the UNet, less the same for a model that is in place and has computed before;
prompts are new each time. "resident": both models fit the budget. "file": one fits, the file is in the system's cache.
Memory is anonymous memory, sampled all the time in a run of its own; file pages are not counted. That run goes round
over five models of different widths, so that memory which one gives back has to serve for all of them. --files: these
instead, of any family; the times are those of the first two.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from modules.core.job import EngineOptions, ImageReady, Step
from modules.engine import memory
from tests.benchmarks import harness
from tests.benchmarks.inline import InlineEngine, plan
from tests.benchmarks.tables import against

WARM_REQUESTS = 4  # before a model counts as settled: layers change how they keep their weights in the first calls
RESIDENT_MS, READ_RATIO, GROWTH, PEAK = 50.0, 1.3, 0.03, 1.15
SAMPLE_SECONDS = 0.02
FIFTH = 5  # the swap after which memory is compared with that after the last one
WIDTHS = (96, 128, 160, 192, 224)  # of the finest level of the models of the memory run
READ_BYTES = 16 << 20


class AnonymousMemory:
    """Samples this process's anonymous memory in a thread; a context manager. Elsewhere than on Linux: the USS."""

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="memory", daemon=True)

    def __enter__(self) -> AnonymousMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, anonymous_bytes())


def anonymous_bytes() -> int:
    """Bytes of this process that no file backs."""
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        return int(psutil.Process().memory_full_info().uss)
    lines = rollup.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every request of a run asks for."""

    side: int
    device: str
    dtype: str
    threads: int
    family: str = ""  # as what the files are recognised

    def options(self, cache_bytes: int | None) -> EngineOptions:
        return EngineOptions(
            device=self.device, dtype=self.dtype, vae_dtype=self.dtype, threads=self.threads, cache_bytes=cache_bytes,
            preview_ms=0, trace=False,
        )  # fmt: skip


class Swapper:
    """Requests of one step to one engine, each with a prompt of its own."""

    def __init__(self, asked: Asked, cache_bytes: int) -> None:
        self._asked = asked
        self.engine = InlineEngine(asked.options(cache_bytes))
        self._numbers = itertools.count()
        self.pictures: dict[Path, bytes] = {}

    def first_output(self, file: Path, *, prompt: str = "") -> float:
        """Seconds from the request to the UNet's first prediction; the job is then run to its end."""
        text = prompt or f"a red apple, number {next(self._numbers)}"
        wanted = plan(file, side=self._asked.side, steps=1, prompt=text, negative=f"not {text}")
        job = self.engine.run(replace(wanted, family=self._asked.family))
        self.pictures[file] = job.first(ImageReady)[1].payload
        return job.first(Step)[0]

    def settled(self, file: Path) -> float:
        """The same for a model in place that has computed a few times."""
        for _ in range(WARM_REQUESTS):
            self.first_output(file)
        return self.first_output(file)


def read_into(buffer: bytearray, file: Path) -> float:
    """Seconds of reading a file into memory that is there already."""
    view = memoryview(buffer)
    began = time.perf_counter()
    with file.open("rb", buffering=0) as source:
        at = 0
        while count := source.readinto(view[at : at + READ_BYTES]):
            at += count
    return time.perf_counter() - began


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds. swap: extra time of the first output; read: the file into a resident buffer; settled: no swap at all."""

    swap: float
    read: float
    settled: float


def file_swaps(asked: Asked, files: Sequence[Path], runs: int) -> Times:
    """One model fits. Reading, swapping and a request without a swap take turns."""
    swapper = Swapper(asked, cache_bytes=1)
    buffer = bytearray(max(file.stat().st_size for file in files))
    reads, swaps, settled = [], [], []
    swapper.settled(files[0])
    for turn in range(-1, runs):
        file = files[turn % 2]
        reads.append(read_into(buffer, file))
        first = swapper.first_output(file)
        settled.append(swapper.settled(file))
        swaps.append(first - settled[-1])
    swapper.engine.close()
    return Times(
        swap=statistics.median(swaps[1:]), read=statistics.median(reads[1:]), settled=statistics.median(settled[1:])
    )


def resident_swaps(asked: Asked, files: Sequence[Path], runs: int) -> Times:
    """Both models fit: the one that is not in place against the one that is."""
    swapper = Swapper(asked, cache_bytes=1 << 50)
    for file in files:
        swapper.settled(file)
    swaps, stays = [], []
    for turn in range(runs * 2):
        file = files[turn % 2]
        swaps.append(swapper.first_output(file))
        stays.append(swapper.first_output(file))
    swapper.engine.close()
    extra = statistics.median(swap - stay for swap, stay in zip(swaps, stays, strict=True))
    return Times(swap=extra, read=0.0, settled=statistics.median(stays))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Anonymous bytes. bare: before the first model; weights: of one model; after: each swap; peak: of all."""

    bare: int
    weights: int
    after: tuple[int, ...]
    peak: int
    same_picture: bool


def memory_of_swaps(asked: Asked, files: Sequence[Path], swaps: int) -> Memory:
    """One model fits; every model computes until it is settled before the next swap."""
    swapper = Swapper(asked, cache_bytes=1)
    memory.give_back(torch.device("cpu"))
    bare = anonymous_bytes()
    after: list[int] = []
    firsts: dict[Path, bytes] = {}
    with AnonymousMemory() as watching:
        for turn in range(swaps + 1):  # the first one is no swap: nothing was loaded before
            file = files[turn % len(files)]
            swapper.settled(file)
            swapper.first_output(file, prompt="the same apple")
            firsts.setdefault(file, swapper.pictures[file])
            if turn:
                after.append(anonymous_bytes())
    same = all(firsts[file] == swapper.pictures[file] for file in files)
    weights = swapper.engine.manager.loaded_bytes()
    weights = weights or files[0].stat().st_size
    swapper.engine.close()
    return Memory(bare=bare, weights=weights, after=tuple(after), peak=watching.peak, same_picture=same)


def several(folder: Path, dtype: torch.dtype) -> list[Path]:
    """Models of five widths, of 1.0 to 2.7 GB in float32."""
    return [
        harness.write_sd15(
            folder / f"width-{width}.safetensors", seed=width, dtype=dtype,
            unet={**harness.UNET, "block_out_channels": (width, 2 * width, 4 * width, 4 * width)},
        )
        for width in WIDTHS
    ]  # fmt: skip


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=5)
    parser.add_argument("--size", type=int, default=64, help="pixels of a side (default %(default)s)")
    parser.add_argument("--swaps", type=int, default=50, help="swaps of the memory run (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="where it computes (default %(default)s)")
    parser.add_argument("--dtype", default="float32", help="of files and computation (default %(default)s)")
    parser.add_argument("--files", type=Path, nargs="+", default=[], help="checkpoints in the dtype of computing")
    parser.add_argument("--full", action="store_true", help="Stable Diffusion 1.5's own widths")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = harness.machine()
    asked = Asked(side=options.size, device=options.device, dtype=options.dtype, threads=options.threads)
    unet = harness.UNET if options.full or options.dtype != "float32" else harness.NARROW_UNET
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        dtype = _DTYPES[options.dtype]
        files = options.files or [
            harness.write_sd15(Path(folder) / f"{name}.safetensors", seed=seed, dtype=dtype, unet=unet)
            for seed, name in enumerate("AB")
        ]
        size = files[0].stat().st_size
        # Memory first: later it would begin with what the other runs left behind
        used = memory_of_swaps(asked, options.files or several(Path(folder), dtype), options.swaps)
        from_file = file_swaps(asked, files, options.runs)
        resident = resident_swaps(asked, files, options.runs)
    growth = used.after[-1] / used.after[min(FIFTH, len(used.after)) - 1] - 1
    rows: list[dict[str, object]] = [
        against("swap to a resident model", resident.swap * 1000, unit="ms", at_most=RESIDENT_MS),
        against("swap to a warm file", from_file.swap, unit="s", at_most=READ_RATIO * from_file.read),
        against("reading that file into a resident buffer", from_file.read, unit="s"),
        against("first output without a swap", from_file.settled, unit="s"),
        against(
            f"memory after swap {len(used.after)}, over that after swap {FIFTH}", growth * 100, unit="%",
            at_most=GROWTH * 100,
        ),
        against("peak over the bare process, in weights", (used.peak - used.bare) / used.weights, at_most=PEAK),
        against("the bare process", used.bare / 1e9, unit="GB"),
        {"": "pictures before and after the swaps", "figure": "equal" if used.same_picture else "different",
         "limit": "equal", "kept": "yes" if used.same_picture else "**no**"},
    ]  # fmt: skip
    title = f"A->B->A, two {size / 1e9:.2f} GB checkpoints, {options.dtype}, median of {options.runs}"
    harness.report(title, rows, facts={**facts, "device": options.device}, output=options.json)


_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


if __name__ == "__main__":
    main()
