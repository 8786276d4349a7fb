"""A linear layer that computes with a packed weight: unpacked at each call, and forgotten after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from modules.backbones.packed.values import PIECE_CPU, Packed

PREFIX = "packed_"


class PackedLinear(nn.Linear):
    """An nn.Linear whose weight is `Packed`. x: (..., in_features), in any floating-point dtype, which the answer has.

    The parts are parameters of plain bytes: they go where `.to(device)` says, and `.to(dtype)` does not touch them (the
    bias and the dtype of `weight` change). `weight` is unpacked when something computes with it, and read-only.
    """

    def __init__(self, packed: Packed, bias: nn.Parameter | None, dtype: torch.dtype) -> None:
        """packed: (out_features, in_features); dtype: the dtype of `weight`."""
        nn.Module.__init__(self)  # nn.Linear's own would make and fill a weight
        self.out_features, self.in_features = packed.shape
        self._packing = packed.packing
        self._kinds = {name: (part.dtype, tuple(part.shape)) for name, part in packed.parts.items()}
        for name, part in packed.parts.items():
            bytes_ = part.contiguous().reshape(-1).view(torch.uint8)
            self.register_parameter(PREFIX + name, nn.Parameter(bytes_, requires_grad=False))
        self.register_parameter("bias", bias)
        # Has no values; it is cast and moved with the layer, and so remembers what to compute in
        self.register_buffer("computing", torch.empty(0, dtype=dtype, device=packed.device), persistent=False)

    @property
    def packed(self) -> Packed:
        """The weight as it is kept; shares its memory."""
        parts = {
            name: self.get_parameter(PREFIX + name).detach().view(dtype).reshape(shape)
            for name, (dtype, shape) in self._kinds.items()
        }
        return Packed(packing=self._packing, parts=parts, shape=(self.out_features, self.in_features))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out_features, in_features). Asking its dtype, device and shape costs nothing, computing unpacks it."""
        return _Later(self)

    def forward(self, input: Tensor) -> Tensor:
        """input @ weight.T + bias. On the CPU some rows of the weight at a time, which stay in its cache."""
        packed, dtype = self.packed, input.dtype
        bias: Tensor | None = self.bias
        bias = None if bias is None else bias.to(dtype)
        if input.device.type != "cpu" or packed.numel() <= PIECE_CPU:
            return functional.linear(input, packed.unpack(dtype), bias)
        answer = input.new_empty((*input.shape[:-1], self.out_features))
        for start, stop, rows in packed.pieces():
            part = None if bias is None else bias[start:stop]
            answer[..., start:stop] = functional.linear(input, rows.packing.unpack(rows.parts, rows.shape, dtype), part)
        return answer

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, packed={self._packing.kind}"


class _Later(Tensor):
    """A tensor that is computed when an operation wants its values; dtype, device and shape are known before.

    Code of transformers and diffusers asks `layer.weight.dtype` at each call.
    """

    _layer: PackedLinear

    @staticmethod
    def __new__(cls, layer: PackedLinear) -> _Later:
        kept = layer.get_buffer("computing")
        shape = (layer.out_features, layer.in_features)
        later: _Later = Tensor._make_wrapper_subclass(
            cls, shape, dtype=kept.dtype, device=kept.device, requires_grad=False
        )
        later._layer = layer
        return later

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"<{self._layer.extra_repr()}>"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func._schema.is_mutable:
            raise TypeError(f"the weight of {args[0]!r} is packed and cannot be changed in place")
        args, kwargs = tree_map(_unpacked, (args, kwargs or {}))
        return func(*args, **kwargs)


def _unpacked(value: Any) -> Any:
    return value._layer.packed.unpack(value.dtype) if isinstance(value, _Later) else value
