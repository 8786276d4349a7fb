"""How much memory there is for models, and how it is given back."""

from __future__ import annotations

import ctypes
import gc
import sys

import psutil
import torch

from modules.diffusion.shortage import is_short

SPARE = 0.5  # of what is free at start, for latents, activations and everybody else


def budget() -> int:
    """Bytes that loaded models may take of the machine's memory, from what is free now."""
    return int(psutil.virtual_memory().available * SPARE)


def free(device: torch.device) -> int:
    """Bytes of `device` that this process could take now, what torch keeps in its pool included."""
    if device.type == "cuda":
        there, total = driver_info(device)
        reserved = torch.cuda.memory_reserved(device)
        # A cap, which torch keeps to and the driver does not know
        allowed = int(total * torch.cuda.get_per_process_memory_fraction(device)) - reserved
        return min(there, allowed) + reserved - torch.cuda.memory_allocated(device)
    if device.type == "xpu":
        there, _total = driver_info(device)
        return int(there + torch.xpu.memory_reserved(device) - torch.xpu.memory_allocated(device))
    if device.type == "mps":
        taken = torch.mps.driver_allocated_memory()
        most = min(torch.mps.recommended_max_memory() - taken, psutil.virtual_memory().available)
        return int(most + taken - torch.mps.current_allocated_memory())
    return int(psutil.virtual_memory().available)


def driver_info(device: torch.device) -> tuple[int, int]:
    """Bytes that the driver of a CUDA or XPU device has free, and in all.

    Drivers of Intel's integrated and of some other GPUs do not tell the former: then it is what torch has not taken.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    try:
        return torch.xpu.mem_get_info(device)
    except RuntimeError:
        total = int(torch.xpu.get_device_properties(device).total_memory)
        return total - torch.xpu.memory_reserved(device), total


def is_lost(error: BaseException) -> bool:
    """Whether the device failed in a way that this process cannot recover from: each further call fails, too."""
    # torch has the type from 2.8 on; before, such an error cannot be told from others
    return isinstance(error, getattr(torch, "AcceleratorError", ())) and not is_short(error)


def empty_cache(device: torch.device) -> None:
    """Return what torch keeps of the device's memory to its driver, for others and for larger blocks."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif device.type == "xpu":
        torch.xpu.empty_cache()


def give_back(device: torch.device) -> None:
    """Return freed memory to the system and the device's pool to the driver.

    Pinned memory as well, which torch keeps pinned otherwise for as long as the process lives.
    glibc keeps freed blocks of some megabytes for itself, which is what most weights are made of; without the trim a
    process that swaps models grows. Hooks, which only other devices than the CPU get, make reference cycles: hence the
    collection, which takes 0.2 s.
    """
    if device.type != "cpu":
        gc.collect()
    empty_cache(device)
    if device.type == "cuda" and torch.cuda.is_initialized():
        # Older releases of torch have it under a private name alone
        empty = getattr(torch.accelerator, "empty_host_cache", None) or getattr(torch._C, "_host_emptyCache", None)
        if empty is not None:
            empty()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none and needs none
        if trim is not None:
            trim(0)
