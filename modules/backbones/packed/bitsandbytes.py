"""Weights of 4 bits in blocks with a common scale, as bitsandbytes writes them: NF4 and FP4.

Dettmers et al. 2023, "QLoRA", section 3: a value is an entry of a table of 16 times the largest magnitude of its
block of (usually) 64 values, counted over the flattened weight; two values share a byte, the first in the high half.
With double quantisation the magnitudes are themselves bytes: an entry of a table of 256 times the largest of a block
of 256, plus their mean. The tables lie in the file, the rest in a JSON text beside them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from modules.backbones.packed.values import Packed, Parts

STATES = ("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4")
SIDES = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")  # after the weight's name and a dot


@dataclass(frozen=True)
class FourBit:
    """parts: "values", (bytes,); "table", (16,); "magnitudes", (blocks,), float32, or bytes with "nested_magnitudes"
    and "nested_table", (256,). block, nested_block: values and magnitudes of a block; mean: is added to the latter.
    """

    kind: str
    block: int
    nested_block: int = 256
    mean: float = 0.0

    def unpack(self, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Packing`."""
        table = parts["table"].to(torch.float32)
        pairs = torch.stack((table.repeat_interleave(16), table.repeat(16)), dim=1)  # by byte: high half, low half
        numel = math.prod(shape)
        values = functional.embedding(parts["values"].to(torch.int32), pairs).reshape(-1)[:numel]
        magnitudes = self._magnitudes(parts, 0, -(-numel // self.block))
        if numel % self.block:
            return (values * magnitudes.repeat_interleave(self.block)[:numel]).reshape(shape).to(dtype)
        return values.reshape(-1, self.block).mul_(magnitudes.unsqueeze(1)).reshape(shape).to(dtype)

    def _magnitudes(self, parts: Parts, first: int, last: int) -> Tensor:
        """The scales of blocks first to last, float32."""
        if "nested_magnitudes" not in parts:
            return parts["magnitudes"][first:last].to(torch.float32)
        low, high = first // self.nested_block, -(-last // self.nested_block)
        scales = parts["nested_magnitudes"][low:high].to(torch.float32).repeat_interleave(self.nested_block)
        begin = first - low * self.nested_block
        entries = functional.embedding(
            parts["magnitudes"][first:last].to(torch.int32), parts["nested_table"].to(torch.float32).unsqueeze(1)
        ).squeeze(1)
        return entries * scales[begin : begin + last - first] + self.mean

    def rows(self, parts: Parts, shape: tuple[int, ...], start: int, stop: int) -> Parts | None:
        """See `Packing`. The scales of doubly quantised rows are computed: blocks of blocks seldom end with a row."""
        columns = math.prod(shape[1:])
        begin, end = start * columns, stop * columns
        if begin % self.block or (end % self.block and stop != shape[0]):
            return None
        first, last = begin // self.block, -(-end // self.block)
        values = parts["values"][begin // 2 : -(-end // 2)]
        return {"values": values, "table": parts["table"], "magnitudes": self._magnitudes(parts, first, last)}


def four_bit(values: Tensor, sides: Mapping[str, Tensor], state: bytes) -> Packed:
    """A weight as bitsandbytes packs it. values: uint8; sides: those of `SIDES` that there are; state: the JSON text.

    Raises ValueError where they do not fit each other.
    """
    kind, shape, packing = _state(state)
    count, blocks = math.prod(shape), -(-math.prod(shape) // packing.block)
    parts = {"values": values.reshape(-1), "table": sides["quant_map"], "magnitudes": sides["absmax"].reshape(-1)}
    sizes = {"values": -(-count // 2), "table": 16, "magnitudes": blocks}
    if "nested_absmax" in sides:
        parts |= {"nested_table": sides["nested_quant_map"], "nested_magnitudes": sides["nested_absmax"].reshape(-1)}
        sizes |= {"nested_table": 256, "nested_magnitudes": -(-blocks // packing.nested_block)}
    for name, part in parts.items():
        if part.numel() != sizes[name]:
            raise ValueError(f"{part.numel()} {name} where {kind} of shape {list(shape)} has {sizes[name]}")
    if values.dtype != torch.uint8 or (parts["magnitudes"].dtype == torch.uint8) != ("nested_table" in parts):
        raise ValueError(f"{kind} values or scales of another type than {kind} has")
    return Packed(packing=packing, parts=parts, shape=shape)


def _state(text: bytes) -> tuple[str, tuple[int, ...], FourBit]:
    try:
        state = json.loads(text)
        kind, shape = str(state["quant_type"]), tuple(int(side) for side in state["shape"])
        packing = FourBit(
            kind=kind,
            block=int(state["blocksize"]),
            nested_block=int(state.get("nested_blocksize") or 256),
            mean=float(state.get("nested_offset") or 0.0),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"an unreadable description ({error})") from error
    if kind not in ("nf4", "fp4") or not shape or min(shape) < 1 or packing.block < 2 or packing.block % 2:
        raise ValueError(f"a description that is not of NF4 or FP4: {text[:200]!r}")
    if packing.nested_block < 1:
        raise ValueError(f"a description with blocks of {packing.nested_block}")
    return kind, shape, packing
