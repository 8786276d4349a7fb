"""Weights in the block formats of GGUF files, unpacked by diffusers' functions, in float32.

A block is a fixed number of values (32, or 256 of the "K" formats) in a fixed number of bytes, with scales inside;
blocks follow each other over the flattened tensor. Source: the GGUF specification and the `gguf` package, whose NumPy
implementation the tests compare with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers.quantizers.gguf.utils import dequantize_functions
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor

from modules.backbones.packed.values import Packed, Parts

PLAIN = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TYPES = tuple(sorted(each.name for each in dequantize_functions if each.name not in PLAIN))


@dataclass(frozen=True)
class Blocks:
    """parts: "blocks", (bytes,), uint8. kind: one of TYPES."""

    kind: str

    @property
    def sizes(self) -> tuple[int, int]:
        """Values and bytes of a block."""
        values, size = GGML_QUANT_SIZES[GGMLQuantizationType[self.kind]]
        return int(values), int(size)

    def unpack(self, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Packing`."""
        values, size = self.sizes
        unpacked: Tensor = dequantize_functions[GGMLQuantizationType[self.kind]](
            parts["blocks"].reshape(-1, size), values, size, dtype=torch.float32
        )
        return unpacked.reshape(shape).to(dtype)

    def rows(self, parts: Parts, shape: tuple[int, ...], start: int, stop: int) -> Parts | None:
        """See `Packing`."""
        values, size = self.sizes
        columns = math.prod(shape[1:])
        if start * columns % values or stop * columns % values:
            return None
        return {"blocks": parts["blocks"][start * columns // values * size : stop * columns // values * size]}


def blocks(data: Tensor, kind: str, shape: tuple[int, ...]) -> Packed:
    """A tensor in GGUF blocks. data: (bytes,), uint8; kind: one of TYPES; shape: of the values, rows first.

    Raises ValueError where the bytes are not those of whole blocks of that many values.
    """
    packing = Blocks(kind)
    values, size = packing.sizes
    count = math.prod(shape)
    if count % values or data.numel() != count // values * size:
        raise ValueError(f"{data.numel()} bytes where {kind} of shape {list(shape)} has {count / values * size:g}")
    return Packed(packing=packing, parts={"blocks": data}, shape=shape)
