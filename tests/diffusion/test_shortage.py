"""Errors of memory, told from others."""

from __future__ import annotations

import pytest
import torch

from modules.diffusion.shortage import is_short


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18.11 GB, other allocations: 8.00 MB)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("Expected all tensors to be on the same device; allocated on cpu"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_every_way_in_which_memory_is_said_to_be_short(error: Exception, short: bool) -> None:
    assert is_short(error) is short
