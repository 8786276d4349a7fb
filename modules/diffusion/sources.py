"""Where random numbers come from: AUTOMATIC1111's noise sources "CPU", "GPU" and "NV".

A stream is begun with a seed and gives one tensor after another. Streams know nothing of each other, and of nothing
global: torch's default generator is neither read nor moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from modules.core.generation import NoiseSource, drawn_by
from modules.diffusion.philox import PhiloxStream


class Stream(Protocol):
    """Standard normal numbers of one seed, draw after draw."""

    def normal(self, shape: Sequence[int]) -> Tensor:
        """The next draw: float32, on the source's device."""


class TorchStream:
    """torch's own generator on a device, seeded with `seed` (0 to 2**64 - 1)."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._generator = torch.Generator(device).manual_seed(seed)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self._generator, device=self._generator.device)


def streams(source: NoiseSource, device: torch.device) -> Callable[[int], Stream]:
    """What begins a stream of `source` from a seed, for a picture that is computed on `device`."""
    used = drawn_by(source, str(device))
    if used == "NV":
        return PhiloxStream
    return TorchStream if used == "CPU" else lambda seed: TorchStream(seed, device)
