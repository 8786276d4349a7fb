"""Memory that models use in turn: kept, bounded, and never given away while somebody looks at it."""

from __future__ import annotations

import gc
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from modules.diffusion.arena import ALIGNMENT, SLAB, Arena, HostPool


def test_the_next_model_gets_the_same_memory() -> None:
    pool = HostPool(4 * SLAB)
    arena = Arena(pool)
    first = arena.take(1000)
    place = first.data_ptr()
    assert pool.free_bytes == 0
    arena.close()
    assert pool.free_bytes == 0  # `first` still looks at it
    del first
    assert pool.free_bytes == SLAB
    assert Arena(pool).take(SLAB).data_ptr() == place


def test_pieces_share_slabs_and_are_aligned() -> None:
    pool = HostPool(4 * SLAB)
    arena = Arena(pool)
    pieces = [arena.take(size) for size in (1, 65, 0, SLAB - 1000, 700)]
    starts = [piece.data_ptr() for piece in pieces]
    assert all((start - starts[0]) % ALIGNMENT == 0 for start in starts)
    assert starts[4] - starts[0] < SLAB
    for number, piece in enumerate(pieces):
        piece.fill_(number)
    assert all(bool((piece == number).all()) for number, piece in enumerate(pieces))
    half = arena.empty((3, 5), torch.float16)
    assert (half.shape, half.dtype, half.is_contiguous()) == ((3, 5), torch.float16, True)
    assert arena.empty((), torch.float32).shape == ()


def test_a_parameter_that_outlives_its_model_keeps_its_values() -> None:
    pool = HostPool(4 * SLAB)
    arena = Arena(pool)
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(arena.empty((4, 4), torch.float32).fill_(7.0), requires_grad=False)
    kept = layer.weight.view(2, 8)[1]
    arena.close()
    layer.to("meta")
    gc.collect()
    other = Arena(pool)
    other.empty((1024,), torch.float32).fill_(-1.0)
    assert kept.tolist() == [7.0] * 8
    assert pool.free_bytes == 0
    del kept
    assert pool.free_bytes == SLAB


def test_what_is_kept_is_bounded() -> None:
    pool = HostPool(2 * SLAB)
    slabs = [pool.take(SLAB) for _ in range(4)]
    del slabs
    assert pool.free_bytes == 2 * SLAB
    large = pool.take(3 * SLAB - 5)
    assert len(large) == 3 * SLAB
    del large
    assert pool.free_bytes <= 2 * SLAB  # larger than the limit: not kept
    one = pool.take(10)
    pool.clear()
    assert pool.free_bytes == 0
    del one
    assert pool.free_bytes == SLAB


def test_large_slabs_are_not_wasted_on_small_pieces() -> None:
    pool = HostPool(8 * SLAB)
    large = pool.take(3 * SLAB)
    place = large.data_ptr()
    del large
    small = pool.take(SLAB)
    assert len(small) == SLAB
    assert pool.take(2 * SLAB).data_ptr() == place


@pytest.mark.parametrize(("says", "raised"), [("CUDA error: out of memory", False), ("no such device", True)])
def test_memory_that_cannot_be_pinned_is_plain(says: str, raised: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.empty

    def empty(*shape: int, dtype: torch.dtype, pin_memory: bool = False) -> torch.Tensor:
        if pin_memory:
            raise RuntimeError(says)
        return plain(*shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(RuntimeError, match=says) if raised else nullcontext():
        assert len(HostPool(SLAB, pin=True).take(10)) == SLAB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory is CUDA's")
def test_pinned_pieces_are_pinned() -> None:
    assert Arena(HostPool(SLAB, pin=True)).empty((5, 5), torch.float16)[1:].is_pinned()
