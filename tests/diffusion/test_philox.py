"""Noise source NV: Philox against its authors' known answers, and CUDA's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modules.diffusion.philox import PhiloxStream, philox

# Random123's known-answer vectors for philox4x32-10: counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]  # fmt: skip
# torch.randn(3, 4, device="cuda") after torch.manual_seed(0), as widely printed.
CUDA = [
    [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
    [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
    [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]) -> None:
    found = philox(np.array(counter, np.uint32)[:, None], np.array(key, np.uint32)[:, None])
    assert tuple(int(word) for word in found[:, 0]) == words


def test_equals_cuda() -> None:
    torch.testing.assert_close(PhiloxStream(0).normal((3, 4)), torch.tensor(CUDA), atol=2e-6, rtol=0)


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
