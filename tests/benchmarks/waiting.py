"""How OpenMP's threads wait for one another: spinning, as they come, or asleep, as the worker starts them.

    python -m tests.benchmarks.waiting [--size 128] [--steps 20] [--runs 5] [--load 0]

The starter's pictures, alternately in two processes that differ in their environment alone. --load: busy loops beside
them, of normal priority. The first line says how busy the machine was before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil

from modules.executors.environment import worker_environment

ROOT = Path(__file__).parents[2]
CHILD = """
import sys, time, torch
from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import EngineOptions
from modules.engine.engine import Engine
size, steps = int(sys.argv[1]), int(sys.argv[2])
engine = Engine(EngineOptions(device="cpu", preview_ms=0, trace=False), lambda event: None)
plan = GenerationPlan(
    checkpoint=FileRef(name="starter", path="models/Stable-diffusion/inferenz-starter.safetensors"), family="sd1",
    prompt="a red apple", negative_prompt="", clip_skip=1, sampler="euler", schedule="karras", steps=steps,
    width=size, height=size, cfg_scale=4.0, seeds=(1,),
)
for line in sys.stdin:
    began = time.perf_counter()
    engine.submit("j", plan)
    while engine.tick():
        pass
    engine.settle()
    print(time.perf_counter() - began, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--load", type=int, default=0, help="busy loops beside them")
    options = parser.parse_args()
    print(
        f"cores {psutil.cpu_count(logical=False)}, load {psutil.getloadavg()[0]:.1f} before, {options.load} busy loops"
    )
    plain = {**os.environ, "PYTHONPATH": str(ROOT)}
    passive = {**plain, **worker_environment(plain)}
    plain["OMP_NUM_THREADS"] = passive["OMP_NUM_THREADS"]  # only how they wait differs
    command = [sys.executable, "-c", CHILD, str(options.size), str(options.steps)]
    with ExitStack() as stack:
        for _ in range(options.load):
            stack.callback(_started([sys.executable, "-c", "while True: pass"], plain).kill)
        children = {"spinning": _started(command, plain), "asleep": _started(command, passive)}
        for child in children.values():
            stack.callback(child.kill)
        times: dict[str, list[float]] = {name: [] for name in children}
        for turn in range(options.runs + 1):
            for name, child in children.items():
                seconds = _asked(child)
                if turn:
                    times[name].append(seconds)
        for name, found in times.items():
            listed = " ".join(f"{seconds:.2f}" for seconds in found)
            print(f"{name:9} median {statistics.median(found):.2f} s ({listed})", flush=True)


def _started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True
    )


def _asked(child: subprocess.Popen[str]) -> float:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return float(child.stdout.readline())


if __name__ == "__main__":
    main()
