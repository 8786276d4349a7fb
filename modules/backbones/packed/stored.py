"""Weights in one floating-point dtype that are computed with in another, converted at each use.

Large text encoders are used once for a picture: keeping T5-XXL as its file has it, mapped, saves 9.5 GB of memory that
a converted copy would take, and the conversion of a layer is little beside computing with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from modules.backbones.packed.values import Packed, Parts


@dataclass(frozen=True)
class Stored:
    """parts: "values", of the tensor's own shape."""

    kind: str = ""

    def unpack(self, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Packing`."""
        return parts["values"].reshape(shape).to(dtype)

    def rows(self, parts: Parts, shape: tuple[int, ...], start: int, stop: int) -> Parts | None:
        """See `Packing`."""
        return {"values": parts["values"].reshape(shape)[start:stop]}


def stored(values: Tensor) -> Packed:
    """The values in the dtype that they have."""
    return Packed(packing=Stored(), parts={"values": values}, shape=tuple(values.shape))


class StoredEmbedding(nn.Embedding):
    """An embedding that converts the rows it is asked for, instead of its whole table (2 GB in Qwen2.5's case)."""

    def __init__(self, table: Tensor, dtype: torch.dtype) -> None:
        """table: (entries, width), in whatever dtype; dtype: of the answers."""
        nn.Module.__init__(self)  # nn.Embedding's own would make and fill a table
        self.num_embeddings, self.embedding_dim = table.shape
        self.padding_idx, self.max_norm, self.norm_type = None, None, 2.0
        self.scale_grad_by_freq = self.sparse = False
        self.weight = nn.Parameter(table, requires_grad=False)
        self._computing = dtype

    def forward(self, input: Tensor) -> Tensor:
        """(..., width) of (...) numbers."""
        return functional.embedding(input, self.weight).to(self._computing)
