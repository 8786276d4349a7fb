"""CUDA's normal numbers on any device: noise source "NV".

torch on CUDA draws with the counter-based generator Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As
Easy as 1, 2, 3") and Box and Muller's transform. Element i of the n-th draw has the counter (n, 0, i, 0) and the seed
as its key, which holds as long as no thread of the device draws twice: up to some hundred thousand values.

The transform is computed in float64 with curand's float32 constants: AUTOMATIC1111's numbers to the last bit of
float32. A device computes in float32 throughout and differs from them by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint32]
Products = NDArray[np.uint64]

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
BLOCK = 8192  # counters computed at a time: all that the rounds touch stays in the core's own cache
_HIGH, _MASK = np.uint64(32), np.uint64(0xFFFFFFFF)
_SCALE = float(np.float32(2.3283064e-10))  # 2**-32, as curand's source writes it
_TURN = float(np.float32(2.3283064e-10 * 6.2831855))


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Ten rounds over (4, n) counters under one key of two words; returns (4, n) random words."""
    words = counter.astype(np.uint64)
    first, second = np.empty_like(words[0]), np.empty_like(words[0])
    for number in range(ROUNDS):
        keys = [np.uint64((key[half] + number * KEY_STEPS[half]) & 0xFFFFFFFF) for half in (0, 1)]
        np.multiply(words[0], MULTIPLIERS[0], out=first)
        np.multiply(words[2], MULTIPLIERS[1], out=second)
        _round(words[1], second, keys[0], words[0])
        _round(words[3], first, keys[1], words[2])
        np.bitwise_and(second, _MASK, out=words[1])
        np.bitwise_and(first, _MASK, out=words[3])
    return words.astype(np.uint32)


def _round(word: Products, product: Products, key: np.uint64, out: Products) -> None:
    """out = upper half of product ^ word ^ key."""
    np.right_shift(product, _HIGH, out=out)
    np.bitwise_xor(out, word, out=out)
    np.bitwise_xor(out, key, out=out)


class PhiloxStream:
    """Draws like torch.randn on a CUDA device whose generator was seeded with `seed` (0 to 2**64 - 1)."""

    def __init__(self, seed: int) -> None:
        self._key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
        self._draws = 0

    def normal(self, shape: Sequence[int]) -> Tensor:
        """The next draw: standard normal float32 on the CPU."""
        values = np.empty(math.prod(shape), dtype=np.float32)
        for start in range(0, len(values), BLOCK):
            part = values[start : start + BLOCK]
            counter = np.zeros((4, len(part)), dtype=np.uint32)
            counter[0] = self._draws
            counter[2] = np.arange(start, start + len(part), dtype=np.uint32)
            words = philox(counter, self._key)
            part[:] = _normal(words[0], words[1])
        self._draws += 1
        return torch.from_numpy(values.reshape(tuple(shape)))


def _normal(first: Words, second: Words) -> NDArray[np.float64]:
    """Box and Muller 1958, the sine alone, from two words each, as curand computes it."""
    radius = np.sqrt(-2.0 * np.log(first * _SCALE + _SCALE / 2))
    values: NDArray[np.float64] = radius * np.sin(second * _TURN + _TURN / 2)
    return values
