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
        there, total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)
        # A cap, which torch keeps to and the driver does not know
        allowed = int(total * torch.cuda.get_per_process_memory_fraction(device)) - reserved
        return min(there, allowed) + reserved - torch.cuda.memory_allocated(device)
    if device.type == "xpu":
        there, _total = torch.xpu.mem_get_info(device)
        return int(there + torch.xpu.memory_reserved(device) - torch.xpu.memory_allocated(device))
    if device.type == "mps":
        most = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return int(min(most, psutil.virtual_memory().available))
    return int(psutil.virtual_memory().available)


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

    glibc keeps freed blocks of some megabytes for itself, which is what most weights are made of; without the trim a
    process that swaps models grows. Hooks, which only other devices than the CPU get, make reference cycles: hence the
    collection, which takes 0.2 s.
    """
    if device.type != "cpu":
        gc.collect()
    empty_cache(device)
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none and needs none
        if trim is not None:
            trim(0)
