"""Noise source NV: Philox against its authors' known answers, and CUDA's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modules.diffusion.philox import BLOCK, PhiloxStream, philox

# Random123's known-answer vectors for philox4x32-10: counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]  # fmt: skip
# torch.randn(3, 4, device="cuda") after torch.manual_seed(0), as AUTOMATIC1111's source states it.
CUDA = [
    [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
    [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
    [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
]


# The same, three rows of eight, as cards printed them
CARDS = [
    -0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631, -1.6711, 2.2655,
    0.3117, -0.1842, 1.2866, 1.1820, -0.1271, 1.2169, 1.4353, 1.0605, -0.4941, -1.4244, -0.7244, -1.2973,
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    found = philox(np.array(counter, np.uint32)[:, None], key)
    assert tuple(int(word) for word in found[:, 0]) == words


def test_equals_cuda() -> None:
    torch.testing.assert_close(PhiloxStream(0).normal((3, 4)), torch.tensor(CUDA), atol=3e-7, rtol=0)
    torch.testing.assert_close(PhiloxStream(0).normal((24,)), torch.tensor(CARDS), atol=6e-5, rtol=0)


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """The generator in whole numbers of any size."""
    for number in range(10):
        if number:
            key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
        high0, low0 = divmod(0xD2511F53 * counter[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * counter[2], 2**32)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
    return counter


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**64 - 1])
def test_numbers_are_computed_in_float64_with_constants_of_float32(seed: int) -> None:
    """As AUTOMATIC1111 computes them, to the last bit; one number at a time here."""
    stream = PhiloxStream(seed)
    turn = float(np.float32(2.3283064e-10 * 6.2831855))
    for draw in range(2):
        found = stream.normal((BLOCK + 3,))
        for place in (0, 1, BLOCK - 1, BLOCK, BLOCK + 2):
            x, y = plain_philox([draw, 0, place, 0], [seed & 0xFFFFFFFF, seed >> 32])[:2]
            radius = np.sqrt(-2 * np.log(x * 2.0**-32 + 2.0**-33))
            assert float(found[place]) == float(np.float32(radius * np.sin(y * turn + turn / 2)))


def test_draws_follow_each_other_and_seeds_differ() -> None:
    stream = PhiloxStream(2**64 - 1)
    first, second = stream.normal((4, 8, 8)), stream.normal((4, 8, 8))
    assert not torch.equal(first, second)
    assert torch.equal(PhiloxStream(2**64 - 1).normal((4, 8, 8)), first)
    assert not torch.equal(PhiloxStream(2**32 - 1).normal((4, 8, 8)), first)  # the upper half of the seed counts
    assert first.dtype == torch.float32


def test_it_is_standard_normal() -> None:
    values = PhiloxStream(5).normal((4, 128, 128)).double()
    assert abs(float(values.mean())) < 0.01
    assert float(values.std()) == pytest.approx(1, abs=0.01)
    assert float((values**4).mean()) == pytest.approx(3, abs=0.15)
