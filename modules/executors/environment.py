"""What must stand in the environment before torch is loaded: how many threads compute, and how they wait.

At the end of every small piece of work OpenMP's threads wait for one another, spinning. While another program has one
of their cores, the others spin for all the time that it has it: a picture takes twenty times as long. Asleep they wait
just as well. OpenMP reads its environment once, as it is loaded, so it is set for the worker's process, or, where the
engine runs in this one, before the engine is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

# libgomp (Linux) and LLVM's and Intel's libomp (macOS, Windows) know the first; the others say the same to one of them
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to an environment in which an engine is to run; what somebody has set already is left as it is."""
    added: dict[str, str] = {}
    if not any(name in environment for name in WAITING):
        added["OMP_WAIT_POLICY"] = "PASSIVE"
    if "OMP_NUM_THREADS" not in environment:
        added["OMP_NUM_THREADS"] = str(cores())
    return added


def cores(limit: Path = CGROUP_LIMIT) -> int:
    """Physical cores that this process may use. limit: a container's share, "max" or microseconds, and a period."""
    found = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        found = min(found, len(os.sched_getaffinity(0)))
    try:
        quota, period = limit.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return max(1, found)  # no such limit here
    if quota == "max":
        return max(1, found)
    return max(1, min(found, -(-int(quota) // int(period))))
