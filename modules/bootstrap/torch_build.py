"""Which build of torch fits this machine.

torch is published once per accelerator, each build on an index of its own. An index is only taken when its page names
a wheel of the wanted version for this Python, system and processor; in every other case the answer is the default
package index, whose build runs everywhere, if not always on the accelerator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from modules.bootstrap.machine import Machine

TORCH_WHEELS = "https://download.pytorch.org/whl"

# Newest first, with the CUDA release that the driver has to serve. CUDA 12 builds run on every driver of that major
# release (minor version compatibility), CUDA 13 dropped the GPUs before Turing.
_CUDA_BUILDS = (("cu132", 13), ("cu130", 13), ("cu129", 12), ("cu128", 12), ("cu126", 12))
_OLD_GPU_BUILDS = ("cu126",)
_TURING = 7.5
_ROCM_BUILDS = ("rocm7.2", "rocm7.1", "rocm7.0", "rocm6.4")


@dataclass(frozen=True, kw_only=True)
class TorchBuild:
    """`index` is empty for the default package index. `chosen` is true if the person named it in TORCH_INDEX_URL."""

    label: str
    index: str = ""
    chosen: bool = False


DEFAULT_BUILD = TorchBuild(label="default build")


def choose_build(machine: Machine, version: str) -> TorchBuild:
    """Ask at most a handful of pages, and none any more once one cannot be reached."""
    named = machine.environ.get("TORCH_INDEX_URL", "").strip()
    if named:
        return TorchBuild(label="build of TORCH_INDEX_URL", index=named, chosen=True)
    label, builds = _candidates(machine)
    for build in builds:
        index = f"{TORCH_WHEELS}/{build}"
        page = machine.fetch(f"{index}/torch/")
        if page is None and machine.fetch(f"{TORCH_WHEELS}/") is None:
            break
        if page is not None and _has_wheel(page, machine, version):
            return TorchBuild(label=f"{label} build ({build})", index=index)
    return DEFAULT_BUILD


def _candidates(machine: Machine) -> tuple[str, Iterable[str]]:
    if machine.platform not in ("linux", "win32"):
        return "", ()
    cuda = _cuda_major(machine)
    if cuda is not None:
        oldest = _oldest_gpu(machine)
        if oldest is not None and oldest < _TURING:
            return "NVIDIA", _OLD_GPU_BUILDS
        return "NVIDIA", tuple(name for name, needs in _CUDA_BUILDS if needs <= cuda)
    if machine.platform == "linux":
        return ("AMD", _ROCM_BUILDS) if machine.has_amd() else ("CPU", ("cpu",))
    return "", ()  # the default index carries the CPU build for Windows


def _cuda_major(machine: Machine) -> int | None:
    driver = machine.driver_cuda()
    if driver is not None:
        return driver[0]
    report = machine.capture(["nvidia-smi"]) or ""
    match = re.search(r"CUDA Version:\s*(\d+)", report)
    return int(match.group(1)) if match else None


def _oldest_gpu(machine: Machine) -> float | None:
    """The lowest compute capability among the GPUs, None where nvidia-smi cannot tell."""
    report = machine.capture(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]) or ""
    found = [float(text) for text in re.findall(r"^\s*(\d+\.\d+)\s*$", report, re.MULTILINE)]
    return min(found, default=None)


def _has_wheel(page: str, machine: Machine, version: str) -> bool:
    system = "win" if machine.platform == "win32" else "linux"
    python = f"cp{machine.version[0]}{machine.version[1]}"
    wheel = rf"torch-{re.escape(version)}(?:%2B|\+)[\w.]+-{python}-{python}-[\w.]*{system}[\w.]*_{machine.architecture}"
    return re.search(wheel, page) is not None
