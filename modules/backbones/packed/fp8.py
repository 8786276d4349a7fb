"""Weights of one byte each, as floating-point numbers of 8 bits, with or without scales.

Plain: the value is the number (float8_e4m3fn or float8_e5m2; Micikevicius et al. 2022, "FP8 formats for deep
learning"). Scaled: the number times a scale, one for the whole tensor, one for each row, or one for each square of
128 rows and columns (DeepSeek-AI 2024, "DeepSeek-V3", section 3.3.2). Files call it `layer.scale_weight` or
`layer.weight_scale`; `layer.weight_scale_inv`, of squares, is multiplied all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.backbones.packed.values import Packed, Parts

STORED = (torch.float8_e4m3fn, torch.float8_e5m2)
SQUARE = 128  # rows and columns with a common scale
LARGEST = 448.0  # of float8_e4m3fn; what is larger would become NaN


@dataclass(frozen=True)
class Fp8:
    """parts: "values", of the tensor's own shape; "scales", (rows, columns), where there are several.

    scale: of all values; a number of float32's precision.
    """

    scale: float = 1.0
    kind: str = "fp8"

    def unpack(self, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Packing`."""
        values = parts["values"].reshape(shape)
        if "scales" not in parts:
            plain = values.to(dtype)  # exact in every dtype that is computed in
            return plain if self.scale == 1.0 else plain.mul_(self.scale)
        scales = parts["scales"].to(torch.float32)
        for axis, count in enumerate(scales.shape):
            if count not in (1, shape[axis]):
                scales = scales.repeat_interleave(SQUARE, axis).narrow(axis, 0, shape[axis])
        return values.to(torch.float32).mul_(scales).to(dtype)

    def rows(self, parts: Parts, shape: tuple[int, ...], start: int, stop: int) -> Parts | None:
        """See `Packing`."""
        cut = {"values": parts["values"][start:stop]}
        if "scales" not in parts:
            return cut
        scales = parts["scales"]
        if len(scales) == 1:
            return {**cut, "scales": scales}
        if len(scales) == shape[0]:
            return {**cut, "scales": scales[start:stop]}
        if start % SQUARE or (stop % SQUARE and stop != shape[0]):
            return None
        return {**cut, "scales": scales[start // SQUARE : -(-stop // SQUARE)]}


def scaled(values: Tensor, scale: Tensor) -> Packed:
    """Values in a float8 dtype, at least one dimension, with their scales: one, one for each row, or for each square
    of 128 rows and columns. Raises ValueError where the scales cannot be those of these values.
    """
    shape = tuple(values.shape)
    if scale.numel() == 1:
        number = float(scale.to(torch.float32).item())
        return Packed(packing=Fp8(number, "fp8_scaled"), parts={"values": values}, shape=shape)
    grid = scale.reshape(-1, 1) if scale.dim() == 1 else scale
    if (
        len(shape) != 2
        or grid.dim() != 2
        or any(count not in (1, side, -(-side // SQUARE)) for count, side in zip(grid.shape, shape, strict=True))
    ):
        raise ValueError(f"scales of shape {list(scale.shape)} do not fit values of shape {list(shape)}")
    return Packed(packing=Fp8(1.0, "fp8_scaled"), parts={"values": values, "scales": grid}, shape=shape)


def plain(values: Tensor) -> Packed:
    """Values in a float8 dtype, as they are."""
    return Packed(packing=Fp8(), parts={"values": values}, shape=tuple(values.shape))
