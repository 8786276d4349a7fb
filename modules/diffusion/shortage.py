"""Errors that say that memory was short, whichever library raises them."""

from __future__ import annotations

import torch

_WORDS = ("out of memory", "_alloc_failed", "can't allocate memory", "not enough memory", "failed to allocate")


def is_short(error: BaseException) -> bool:
    """Whether an error says that memory was short. Only CUDA and XPU have an exception of their own for it.

    The words are MPS's, the CUDA runtime's, cuBLAS's and cuDNN's, and those of torch's allocator for the CPU on Linux
    and on Windows.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _WORDS)
