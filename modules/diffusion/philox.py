"""CUDA's normal numbers on any device: noise source "NV".

torch on CUDA draws with the counter-based generator Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As
Easy as 1, 2, 3") and Box and Muller's transform. Element i of the n-th draw has the counter (n, 0, i, 0) and the seed
as its key, which holds as long as no thread of the device draws twice: up to some hundred thousand values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint32]

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
ROUNDS = 10
_SCALE = np.float32(2.3283064e-10)  # 2**-32, as curand's source writes it
_TURN = np.float32(2.3283064e-10 * 6.2831855)


def philox(counter: Words, key: Words) -> Words:
    """Ten rounds over (4, n) counters with (2, n) keys; returns (4, n) random words."""
    words, key = counter.copy(), key.copy()
    for number in range(ROUNDS):
        if number:
            key = np.stack([key[0] + KEY_STEPS[0], key[1] + KEY_STEPS[1]])
        first, second = (words[2 * half].astype(np.uint64) * MULTIPLIERS[half] for half in (0, 1))
        words = np.stack(
            [_high(second) ^ words[1] ^ key[0], _low(second), _high(first) ^ words[3] ^ key[1], _low(first)]
        )
    return words


def _high(product: NDArray[np.uint64]) -> Words:
    return (product >> np.uint64(32)).astype(np.uint32)


def _low(product: NDArray[np.uint64]) -> Words:
    return (product & np.uint64(0xFFFFFFFF)).astype(np.uint32)


class PhiloxStream:
    """Draws like torch.randn on a CUDA device whose generator was seeded with `seed` (0 to 2**64 - 1)."""

    def __init__(self, seed: int) -> None:
        self._key = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], dtype=np.uint32)
        self._draws = 0

    def normal(self, shape: Sequence[int]) -> Tensor:
        """The next draw: standard normal float32 on the CPU."""
        count = math.prod(shape)
        counter = np.zeros((4, count), dtype=np.uint32)
        counter[0] = self._draws
        counter[2] = np.arange(count, dtype=np.uint32)
        self._draws += 1
        words = philox(counter, np.repeat(self._key[:, None], count, axis=1))
        return torch.from_numpy(_normal(words[0], words[1]).reshape(tuple(shape)))


def _normal(first: Words, second: Words) -> NDArray[np.float32]:
    """Box and Muller 1958, the sine alone, from two words each, as curand computes it."""
    radius = np.sqrt(np.float32(-2) * np.log(first.astype(np.float32) * _SCALE + _SCALE / np.float32(2)))
    angle = second.astype(np.float32) * _TURN + _TURN / np.float32(2)
    values: NDArray[np.float32] = (radius * np.sin(angle)).astype(np.float32)
    return values
