"""Variation seeds, seeds of another size and ENSD against AUTOMATIC1111's rules, written again for one (C, H, W)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modules.diffusion.noise import NO_GPU, NoiseChoice, PictureNoise
from modules.diffusion.philox import PhiloxStream
from modules.diffusion.variation import centred, slerp

SIGMAS = (14.6, 3.0, 0.5, 0.0)
SHAPE = (1, 4, 6, 8)


def noise(seed: int, shape: tuple[int, ...] = SHAPE, **choice: Any) -> PictureNoise:
    return PictureNoise(seed, shape, SIGMAS, "cpu", NoiseChoice(**choice))


def drawn(seed: int, shape: tuple[int, ...] = SHAPE[1:]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_columns(strength: float, first: Tensor, second: Tensor) -> Tensor:
    """Spherical interpolation of each column of each channel, one at a time in double precision."""
    found = torch.empty_like(first)
    for channel in range(first.shape[0]):
        for column in range(first.shape[2]):
            a, b = first[channel, :, column].double(), second[channel, :, column].double()
            angle = math.acos(float(a @ b / (a.norm() * b.norm())))
            mixed = math.sin((1 - strength) * angle) * a + math.sin(strength * angle) * b
            found[channel, :, column] = mixed / math.sin(angle)
    return found


@pytest.mark.parametrize("strength", [0.05, 0.5, 0.9])
def test_a_variation_lies_on_the_arc_between_two_seeds(strength: float) -> None:
    found = noise(1, variation_seed=2, variation_strength=strength).initial()
    torch.testing.assert_close(found[0], by_columns(strength, drawn(1), drawn(2)), atol=1e-4, rtol=1e-4)


def test_the_ends_of_the_arc_are_the_two_seeds() -> None:
    assert torch.equal(noise(1, variation_seed=2, variation_strength=0.0).initial()[0], drawn(1))
    torch.testing.assert_close(
        noise(1, variation_seed=2, variation_strength=1.0).initial()[0], drawn(2), atol=1e-4, rtol=1e-4
    )
    same = noise(3, variation_seed=3, variation_strength=0.5).initial()[0]
    torch.testing.assert_close(same, drawn(3))


def test_what_is_drawn_later_follows_the_main_seed() -> None:
    varied, plain = noise(1, variation_seed=2, variation_strength=0.5), noise(1)
    assert torch.equal(varied.fresh(), plain.fresh())
    assert torch.equal(varied.between(14.0, 2.0), plain.between(14.0, 2.0))


def test_nearly_equal_noises_are_mixed_in_a_line() -> None:
    first = drawn(1).unsqueeze(0)
    second = first * 1.001
    assert torch.equal(slerp(0.25, first, second), first * 0.25 + second * 0.75)


@pytest.mark.parametrize("size", [(6, 8), (4, 4), (10, 12), (4, 12), (5, 9), (10, 3)])
def test_noise_of_another_size_lies_in_the_middle(size: tuple[int, int]) -> None:
    """AUTOMATIC1111's own index arithmetic, for (C, H, W)."""
    found = noise(1, resize=size).initial()[0]
    if size == SHAPE[2:]:
        assert torch.equal(found, drawn(1))
        return
    other, expected = drawn(1, (4, *size)), drawn(1)
    dx, dy = (SHAPE[3] - size[1]) // 2, (SHAPE[2] - size[0]) // 2
    w = size[1] if dx >= 0 else size[1] + 2 * dx
    h = size[0] if dy >= 0 else size[0] + 2 * dy
    tx, ty = max(dx, 0), max(dy, 0)
    dx, dy = max(-dx, 0), max(-dy, 0)
    expected[:, ty : ty + h, tx : tx + w] = other[:, dy : dy + h, dx : dx + w]
    assert torch.equal(found, expected)


def test_centred_leaves_its_ground_alone() -> None:
    ground = torch.zeros(1, 1, 4, 4)
    assert float(centred(torch.ones(1, 1, 2, 2), ground).sum()) == 4
    assert float(ground.sum()) == 0


def test_ensd_moves_the_later_draws_alone() -> None:
    moved, plain = noise(1, ensd=31337), noise(1)
    assert torch.equal(moved.initial(), plain.initial())
    assert torch.equal(moved.fresh()[0], drawn(1 + 31337))
    assert torch.equal(moved.between(14.0, 2.0), plain.between(14.0, 2.0))
    assert torch.equal(noise(1, ensd=-2).fresh()[0], drawn(2**64 - 1))  # below 0 it goes round


def test_nv_is_one_stream_of_philox() -> None:
    stream = PhiloxStream(7)
    found = noise(7, source="NV")
    assert torch.equal(found.initial()[0], stream.normal(SHAPE[1:]))
    assert torch.equal(found.fresh()[0], stream.normal(SHAPE[1:]))
    assert found.notice == ""


def test_without_a_gpu_its_source_is_the_cpus_and_says_so() -> None:
    found = noise(7, source="GPU")
    assert found.notice == NO_GPU
    assert torch.equal(found.initial()[0], drawn(7))


@pytest.mark.parametrize("source", ["CPU", "NV"])
def test_everything_at_once_stays_repeatable(source: str) -> None:
    choice: dict[str, Any] = {
        "source": source,
        "variation_seed": 9,
        "variation_strength": 0.3,
        "resize": (4, 10),
        "ensd": 5,
    }
    first, second = noise(1, **choice), noise(1, **choice)
    assert torch.equal(first.initial(), second.initial())
    assert torch.equal(first.fresh(), second.fresh())
    assert first.initial().shape == SHAPE


def test_the_brownian_path_is_drawn_from_the_source() -> None:
    """AUTOMATIC1111 hands torchsde its own draw: one node's noise is the first draw of that node's seed."""
    found, plain = noise(7, source="NV"), noise(7)
    assert not torch.equal(found.between(3.0, 2.0), plain.between(3.0, 2.0))
    whole = PhiloxStream(int(np.random.SeedSequence(7, pool_size=24).generate_state(1)[0])).normal(SHAPE)
    torch.testing.assert_close(found.between(14.6, 0.5), -whole, atol=1e-6, rtol=0)
