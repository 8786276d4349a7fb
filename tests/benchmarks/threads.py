"""One thread against all of them for the starter's passes, from small to large: where dividing the work begins to pay.

    python -m tests.benchmarks.threads [--sizes 128 160 192 224 256] [--steps 12] [--runs 5]

Passes of two rows, with OpenMP's threads waiting asleep as in the worker. "chosen": as `engine/threads.py` decides.
Error: the largest difference between the predictions of both, of 1.0.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from modules.core.generation import FileRef
from modules.core.job import EngineOptions
from modules.engine.manager import ModelManager
from modules.engine.threads import threads_for
from modules.executors.environment import WAITING, worker_environment
from tests.benchmarks import harness
from tests.benchmarks.preview import STARTER
from tests.passes import chosen, denoise, encoded

MARK = "INFERENZ_BENCHMARK_ASLEEP"


def asleep() -> int | None:
    """This command's exit code from a process whose threads wait asleep; None in that process."""
    if MARK in os.environ:
        return None
    plain = {name: value for name, value in os.environ.items() if name not in WAITING}
    environment = {**plain, **worker_environment(plain), MARK: "1"}
    command = [sys.executable, "-m", "tests.benchmarks.threads", *sys.argv[1:]]
    return subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], check=False).returncode


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 160, 192, 224, 256], help="pixels of a side")
    parser.add_argument("--steps", type=int, default=12, help="passes of one measurement (default %(default)s)")
    options = parser.parse_args()
    if (code := asleep()) is not None:
        sys.exit(code)
    facts = harness.machine()
    manager = ModelManager(EngineOptions(device="cpu"))
    model = manager.bring(chosen(FileRef(name=STARTER.name, path=STARTER.path))).backbone
    (text,) = encoded(model, ["a red apple"], 1)
    rows: list[dict[str, object]] = []
    many = options.threads
    with torch.inference_mode():
        for size in options.sizes:
            x = torch.randn(2, 4, size // 8, size // 8, generator=torch.Generator().manual_seed(size))
            answers: dict[int, torch.Tensor] = {}

            def passes(threads: int, x: torch.Tensor = x, answers: dict[int, torch.Tensor] = answers) -> None:
                torch.set_num_threads(threads)
                for _ in range(options.steps):
                    answers[threads] = denoise(model, x, torch.full((2,), 5.0), text.expand(2, -1, -1))

            times = harness.alternate({"one": lambda: passes(1), "all": lambda: passes(many)}, runs=options.runs)
            torch.set_num_threads(many)
            with threads_for(x, model.weight_bytes):
                taken = torch.get_num_threads()
            one, every = (times[way].wall / options.steps * 1000 for way in ("one", "all"))
            error = harness.difference(answers[1], answers[many])
            rows.append({"pixels": f"{size} x {size}", "one thread, ms": one, f"{many} threads, ms": every,
                         "ratio": every / one, "chosen": taken, "error": error})  # fmt: skip
    harness.report(f"A pass of the starter, median of {options.runs}", rows, facts=facts, output=options.json)


if __name__ == "__main__":
    main()
