"""Pictures that continue over their own edges, for textures: what AUTOMATIC1111 calls tiling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def seamless(module: nn.Module, on: bool = True) -> Iterator[None]:
    """While it lasts, every convolution of `module` sees the opposite edge where it would see zeros.

    Nothing else in a UNet or decoder knows where the edge is: what goes in shifted around comes out shifted around.
    """
    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and layer.padding not in ((0, 0), "valid")
    ] if on else []  # fmt: skip
    for layer in layers:
        layer.padding_mode = "circular"
    try:
        yield
    finally:
        for layer in layers:
            layer.padding_mode = "zeros"
