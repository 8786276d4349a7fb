"""Memory of the host that models use in turn, so that a swap meets no fresh pages.

Writing to memory that the system has just given costs several times the copy itself (a fault for each page); pinned
memory, from which a CUDA device copies by itself, costs far more to get. So what one model gives back, the next one
takes: `HostPool` keeps it, an `Arena` cuts it into pieces for the weights of one model.

Memory comes back when nothing looks at it any more: the last tensor over a slab, whoever holds it, returns the slab as
it dies. A parameter that outlives its model keeps its values, and the pool does without the slab for as long. For one
thread at a time.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modules.diffusion.shortage import is_short

SLAB = 64 << 20  # bytes; larger pieces have a slab of their own
ALIGNMENT = 64  # bytes: a line of the CPU's cache, and more than any dtype needs

Memory = NDArray[np.uint8]


class HostPool:
    """Slabs of memory that wait for their next use.

    limit: bytes that are kept at most while nobody uses them. pin: the memory is pinned, for copies to a CUDA device,
    for as much of it as the system allows.
    """

    def __init__(self, limit: int, *, pin: bool = False) -> None:
        self.limit, self.pin = limit, pin
        self._free: list[Memory] = []

    @property
    def free_bytes(self) -> int:
        """Bytes that are kept and not used."""
        return sum(memory.nbytes for memory in self._free)

    def take(self, size: int) -> Tensor:
        """A slab of at least `size` bytes, (bytes,) uint8, with anything in it. Raises torch's out-of-memory errors."""
        wanted = max(-(-size // SLAB), 1) * SLAB
        # One of twice the size would be missing where it is needed
        fitting = [memory for memory in self._free if wanted <= memory.nbytes < 2 * wanted]
        if fitting:
            memory = min(fitting, key=lambda each: each.nbytes)
            self._free = [each for each in self._free if each is not memory]
        else:
            self._shrink(self.limit - wanted)  # what did not fit makes room for what does
            memory = self._fresh(wanted)
        # All tensors over the slab share one storage, which holds this one view until the last of them dies
        lease = memory.view()
        weakref.finalize(lease, self._return, memory).atexit = False
        return torch.from_numpy(lease)

    def clear(self) -> None:
        """Give what waits to the system. Slabs in use come back as before."""
        self._free.clear()

    def _fresh(self, size: int) -> Memory:
        if self.pin:
            try:
                return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
            except RuntimeError as error:
                # Systems let less be pinned than there is (Windows, containers): from other memory copies are slower
                if not is_short(error):
                    raise
        return torch.empty(size, dtype=torch.uint8).numpy()

    def _return(self, memory: Memory) -> None:
        self._shrink(self.limit - memory.nbytes)
        if memory.nbytes <= self.limit:
            self._free.append(memory)

    def _shrink(self, size: int) -> None:
        """Drop the oldest until `size` bytes are left at most."""
        while self._free and self.free_bytes > size:
            self._free.pop(0)


class Arena:
    """The memory of one model, taken piece by piece and given back as a whole."""

    def __init__(self, pool: HostPool) -> None:
        self.pool = pool
        self._open: list[tuple[Tensor, int]] = []  # slab, bytes used

    def take(self, size: int) -> Tensor:
        """`size` bytes, (size,) uint8, with anything in them; aligned to 64 bytes."""
        for index, (slab, used) in enumerate(self._open):
            if size <= len(slab) - used:
                self._open[index] = (slab, -(-(used + size) // ALIGNMENT) * ALIGNMENT)
                return slab[used : used + size]
        slab = self.pool.take(size)
        self._open.append((slab, -(-size // ALIGNMENT) * ALIGNMENT))
        return slab[:size]

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor with anything in it."""
        return self.take(math.prod(shape) * dtype.itemsize).view(dtype).reshape(tuple(shape))

    def close(self) -> None:
        """Take no more. Each slab goes back to the pool as soon as no tensor looks at it. May be called twice."""
        self._open.clear()
