"""A packed tensor: the file's bytes, and how their values are computed when they are needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Values unpacked at once. On the CPU what fits its cache, and memory that is used again instead of fresh pages
# (which cost several times the unpacking); elsewhere few launches, and still little beside the weights.
PIECE_CPU, PIECE_DEVICE = 1 << 20, 1 << 24
ROWS = 128  # so many rows are whole blocks of nearly every packing, where one row is none

Parts = Mapping[str, Tensor]


class Packing(Protocol):
    """How bytes become values. Holds numbers only, no tensor; `parts` holds those, by names of the packing's own."""

    @property
    def kind(self) -> str:
        """As `ModelInfo.quantisation` has it, or a GGUF type: "fp8", "fp8_scaled", "nf4", "fp4", "Q4_K" ..."""

    def unpack(self, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The values, of shape `shape`, computed in float32 (or exactly) and rounded once to `dtype`."""

    def rows(self, parts: Parts, shape: tuple[int, ...], start: int, stop: int) -> Parts | None:
        """The parts of rows start to stop (of the first dimension), as views where possible; None where these rows
        begin or end inside a block."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """A tensor that is packed. shape: of the values, at least one dimension; parts: its bytes, scales, tables."""

    packing: Packing
    parts: Parts
    shape: tuple[int, ...]

    def numel(self) -> int:
        """How many values."""
        return math.prod(self.shape)

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return next(iter(self.parts.values())).device

    def rows(self, start: int, stop: int) -> Packed | None:
        """Rows start to stop of the first dimension, sharing memory; None where they begin or end inside a block."""
        parts = self.packing.rows(self.parts, self.shape, start, stop)
        shape = (stop - start, *self.shape[1:])
        return None if parts is None else Packed(packing=self.packing, parts=parts, shape=shape)

    def reshaped(self, shape: tuple[int, ...]) -> Packed | None:
        """The same values under another shape; None where the packing depends on the shape (scales of rows)."""
        if any(part.dim() > 1 for part in self.parts.values()):
            return None
        return Packed(packing=self.packing, parts=self.parts, shape=shape)

    def moved(self, move: Callable[[Tensor], Tensor]) -> Packed:
        """The same with each part replaced by move(part)."""
        parts = {name: move(part) for name, part in self.parts.items()}
        return Packed(packing=self.packing, parts=parts, shape=self.shape)

    def pieces(self) -> Iterator[tuple[int, int, Packed]]:
        """(start, stop, those rows), of about a piece's size each; all at once where blocks reach over rows."""
        piece = PIECE_CPU if self.device.type == "cpu" else PIECE_DEVICE
        rows, values = self.shape[0], self.numel()
        step = max(1, piece * rows // values) if values > piece else rows
        if step < rows and self.rows(0, step) is None:
            step = -(-step // ROWS) * ROWS
        if step >= rows or self.rows(0, step) is None:
            yield 0, rows, self
            return
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            part = self.rows(start, stop)
            if part is None:
                raise ValueError(f"rows {start} to {stop} of {self.shape} are no whole {self.packing.kind} blocks")
            yield start, stop, part

    def unpack(self, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """The values in `dtype`, on the device of the parts. out: where to put them (same shape), else fresh memory."""
        if out is None and self.numel() <= PIECE_CPU:
            return self.packing.unpack(self.parts, self.shape, dtype)
        home = torch.empty(self.shape, dtype=dtype, device=self.device) if out is None else out
        for start, stop, part in self.pieces():
            home[start:stop] = part.packing.unpack(part.parts, part.shape, dtype)
        return home
