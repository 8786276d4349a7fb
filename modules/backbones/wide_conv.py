"""Faster convolutions on the CPU where a layer has many more weights than its picture has pixels.

torch's convolution on the CPU (oneDNN) reorders all weights at every call. In the inner levels of a UNet that costs
more than computing: 1280 -> 1280 channels, 3 x 3, at 4 x 4 pixels have 14.7 million weights for 16 pixels. There a
convolution is computed as one matrix product, of the weights as they lie in memory with the windows of the picture
("im2col"; Chellapilla, Puri, Simard 2006). Nothing is packed, copied or remembered: weights stay the mapped file's
pages and the layer's parameter, and the first call computes as every later one does.

Only the layer and the size of the picture choose the way, never batch, threads or history.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW_SHARE = 32  # weights per value of a picture from which the product is faster; measured in docs/benchmarks.md


class WideConv2d(nn.Conv2d):
    """An nn.Conv2d that multiplies matrices where that is faster, in float32 on the CPU. x: (N, C, H, W)."""

    @classmethod
    def of(cls, plain: nn.Conv2d) -> WideConv2d:
        """The layer with its parameters and hooks, to take the place of `plain`, one of which `fits` is true."""
        layer = cls.__new__(cls)
        layer.__dict__.update(plain.__dict__)  # making a new one would take longer than mapping the whole file
        return layer

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows, columns = self._output_size(input)
        wide = self.out_channels * weight[0, 0].numel() >= WINDOW_SHARE * rows * columns > 0
        if not (wide and input.dim() == 4 and input.shape[1] == self.in_channels and _plain_cpu(input)):
            answer: Tensor = super()._conv_forward(input, weight, bias)  # type: ignore[no-untyped-call,unused-ignore]
            return answer
        matrix = weight.reshape(self.out_channels, -1)
        windows = self._windows(input)
        product = matrix @ windows if bias is None else torch.addmm(bias.unsqueeze(1), matrix, windows)
        return product.view(self.out_channels, len(input), rows, columns).transpose(0, 1)

    def _output_size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the answer to x."""
        rows, columns = (
            (x.shape[axis - 2] + 2 * int(self.padding[axis]) - self.kernel_size[axis]) // self.stride[axis] + 1
            for axis in (0, 1)
        )
        return rows, columns

    def _windows(self, x: Tensor) -> Tensor:
        """(C * kernel height * kernel width, N * H_out * W_out): what each pixel of the answer sees, in one copy."""
        down, right = int(self.padding[0]), int(self.padding[1])
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        padded = functional.pad(x, (right, right, down, down), mode=mode) if down or right else x
        seen = padded
        for axis in (0, 1):
            seen = seen.unfold(axis + 2, self.kernel_size[axis], self.stride[axis])
        count = self.in_channels * self.kernel_size[0] * self.kernel_size[1]
        return seen.permute(1, 4, 5, 0, 2, 3).reshape(count, -1)


def _plain_cpu(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu"


def fits(layer: nn.Module) -> bool:
    """Whether a WideConv2d computes what `layer` does. Exactly torch's own: a subclass may compute something else."""
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def widen(module: nn.Module) -> None:
    """Put a WideConv2d in the place of each convolution of `module` that has one. Names and parameters stay."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and fits(child):
                setattr(parent, name, WideConv2d.of(child))
