"""Full-size random checkpoints of each family: what loading, a step and a decode take, in seconds and memory.

    python -m tests.benchmarks.families [--families sd1 sdxl] [--size 256] [--dtype bfloat16] [--file-dtype float32]
        [--folder FOLDER]

Each family runs in a process of its own, which makes one picture of one step (two rows: with guidance). "load" is from
the request to the model's arrival, "anonymous" the peak of memory that no file backs: on a CPU whose dtype is the
file's that is all but activations, for weights stay pages of the mapped file. "above bare" is the same less what the
process had before, and "estimated" what the engine takes that to be. "resident" counts the mapped pages, too.
The files are kept in FOLDER where one is given, for the next time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from modules.core.job import EngineOptions, ModelReady, Step
from modules.engine.estimate import Work
from modules.engine.manager import ModelManager
from tests.benchmarks import harness
from tests.benchmarks.inline import InlineEngine, plan
from tests.benchmarks.swap import AnonymousMemory, anonymous_bytes

Write = Callable[..., Path]
FAMILIES: Mapping[str, Write] = {"sd1": harness.write_sd15, "sdxl": harness.write_sdxl}
GB = 1e9


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=1)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--size", type=int, default=256, help="pixels of a side (default %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--file-dtype", default="", choices=["", "bfloat16", "float16", "float32"], help="if another")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=None, help="where files are kept")
    parser.add_argument("--one", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(measured(options.one, options)))
        return
    facts = harness.machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        kept_as = options.file_dtype or options.dtype
        rows = [{"": name, **in_a_process(written(name, folder, kept_as), options)} for name in options.families]
    title = f"Full-size checkpoints, {options.size} x {options.size}, {options.dtype} on {options.device}"
    harness.report(title, rows, facts=facts, output=options.json)


def written(name: str, folder: Path, dtype: str) -> Path:
    """The family's file, from the last time where there is one."""
    path = folder / f"{name}-{dtype}.safetensors"
    if not path.exists():
        part = path.with_suffix(".part")
        FAMILIES[name](part, dtype=getattr(torch, dtype)).rename(path)
    return path


def in_a_process(file: Path, options: Any) -> dict[str, Any]:
    """What a fresh process finds."""
    command = [
        sys.executable, "-m", "tests.benchmarks.families", "--one", str(file), "--size", str(options.size), "--dtype",
        options.dtype, "--device", options.device, "--threads", str(options.threads),
    ]  # fmt: skip
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(answer.strip().splitlines()[-1])
    return found


def measured(file: Path, options: Any) -> dict[str, Any]:
    """Figures of one file, in this process."""
    asked = EngineOptions(
        device=options.device, dtype=options.dtype, vae_dtype=options.dtype, threads=options.threads, preview_ms=0,
        trace=False,
    )  # fmt: skip
    engine = InlineEngine(asked)
    order, bare = plan(file, side=options.size, steps=1, prompt="a red apple"), anonymous_bytes()
    with AnonymousMemory() as anonymous:
        job = engine.run(order)
        resident = psutil.Process().memory_info().rss
    ready, step, end = job.first(ModelReady)[0], job.first(Step)[0], job.events[-1][0] - job.began
    again = engine.run(plan(file, side=options.size, steps=1, prompt="a green apple"))
    warm = again.first(Step)[0]
    weights = engine.backbone(file).weight_bytes
    engine.close()
    # As it was told before anything was loaded: what is loaded already is no longer counted
    fit = ModelManager(asked).bring(order.model, Work(width=options.size, height=options.size)).fit
    return {
        "file GB": file.stat().st_size / GB, "load s": ready, "first step s": step - ready, "warm step s": warm,
        "decode s": end - step, "weights GB": weights / GB, "anonymous GB": anonymous.peak / GB,
        "above bare GB": (anonymous.peak - bare) / GB, "estimated GB": fit.choice.needed / GB,
        "resident GB": resident / GB,
    }  # fmt: skip


if __name__ == "__main__":
    main()
