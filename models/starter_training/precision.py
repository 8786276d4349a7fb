"""In which type training computes: bfloat16 where the hardware has it, else float32.

A CPU that has no bfloat16 of its own computes in it all the same, far slower than in float32.
"""

from __future__ import annotations

import torch

CPU_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16")  # names of it among a CPU's capabilities


def quick(device: torch.device) -> torch.dtype:
    """The type in which matrices are quick on `device`."""
    if device.type != "cpu":
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(capabilities.get(name) for name in CPU_BFLOAT16) else torch.float32


def computing(device: torch.device) -> torch.autocast:
    """A context in which matrices are multiplied in the quick type."""
    dtype = quick(device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
