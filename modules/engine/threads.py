"""How many CPU threads compute a pass: work too small to divide is done by one.

Threads that wait for one another asleep (see executors/environment.py) are woken for every layer. Where a layer takes
less time than that, a second thread makes a picture slower: the starter at 128 x 128 takes 0.4 s with one thread and
0.7 s with two (tests/benchmarks/threads.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Bytes of a model's weights times latent pixels of all rows. The starter: two rows at 224 x 224; of Stable Diffusion
# 1.5 it is less than the smallest picture
SMALL_WORK = 1.2e11


@contextmanager
def threads_for(x: Tensor, weight_bytes: int) -> Iterator[None]:
    """Compute in here with as many threads as the work is worth: one, or as many as are set.

    x: (N, C, H, W), what is computed on the device of `x`; weight_bytes: of the whole model.
    """
    threads = torch.get_num_threads()
    work = weight_bytes * len(x) * x.shape[-2] * x.shape[-1]
    if x.device.type != "cpu" or threads == 1 or work > SMALL_WORK:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
