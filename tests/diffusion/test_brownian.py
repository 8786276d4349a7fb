"""The Brownian tree against torchsde's, number by number, and what makes it a Brownian path."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torchsde import BrownianTree as Reference

from modules import schedules
from modules.core.sampling import NoiseLevels
from modules.diffusion.brownian import BrownianTree
from modules.diffusion.philox import PhiloxStream
from modules.diffusion.sources import Stream, TorchStream

SCHEDULES = schedules.registry()


def own(seed: int, shape: tuple[int, ...], start: float, end: float) -> BrownianTree:
    return BrownianTree(seed, shape, start=start, end=end, begin=TorchStream)


@pytest.mark.parametrize("spacing", ["karras", "exponential", "normal", "simple"])
@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 2, 3, 5)])
def test_equal_to_torchsdes_to_the_last_bit(spacing: str, shape: tuple[int, ...]) -> None:
    sigmas = [round(sigma, 6) for sigma in SCHEDULES[spacing].run(12, NoiseLevels.scaled_linear())[:-1]]
    start, end = sigmas[-1], sigmas[0]
    reference = Reference(t0=start, w0=torch.zeros(shape), t1=end, entropy=2**40 + 3, tol=1e-6)
    tree = own(2**40 + 3, shape, start, end)
    for high, low in pairwise(sigmas):
        middle = round((high * low) ** 0.5, 6)
        for a, b in ((middle, high), (low, high), (low, middle), (start, high), (middle, end)):
            if a < b:
                assert torch.equal(tree.increment(a, b), reference(a, b)), (a, b)
    assert torch.equal(tree.increment(start, end), reference(start, end))


def test_the_order_of_questions_changes_nothing() -> None:
    points = [0.03, 0.5, 1.0, 2.5, 7.0, 9.75, 14.6]
    spans = [(a, b) for a in points for b in points if a < b]
    forwards, backwards = own(5, (1, 1, 4, 4), 0.03, 14.6), own(5, (1, 1, 4, 4), 0.03, 14.6)
    first = {span: forwards.increment(*span) for span in spans}
    second = {span: backwards.increment(*span) for span in reversed(spans)}
    for span in spans:
        assert torch.equal(first[span], second[span])
    total = sum((first[span] for span in pairwise(points)), torch.zeros(1, 1, 4, 4))
    torch.testing.assert_close(total, first[0.03, 14.6], rtol=0, atol=1e-5)


def test_an_answer_can_be_changed_by_its_owner() -> None:
    tree = own(1, (1, 1, 2, 2), 0.0, 16.0)
    spans = [(0.0, 16.0), (0.0, 8.0), (8.0, 16.0), (3.0, 5.0)]
    before = [tree.increment(*span).clone() for span in spans]
    for span in spans:
        tree.increment(*span).mul_(0)
    for span, expected in zip(spans, before, strict=True):
        assert torch.equal(tree.increment(*span), expected)


def test_variance_is_the_length() -> None:
    tree = own(3, (1, 4, 64, 64), 0.0, 16.0)
    for start, end in ((0.0, 16.0), (3.0, 5.5), (1.0, 1.01)):
        assert float(tree.increment(start, end).var()) == pytest.approx(end - start, rel=0.05)


def test_times_nearer_than_the_grid_are_one() -> None:
    tree = own(3, (1, 1, 2, 2), 0.0, 1.0)
    assert not bool(tree.increment(0.5, 0.5000001).any())
    assert bool(tree.increment(0.5, 0.500001).all())


@pytest.mark.parametrize("span", [(-0.1, 0.5), (0.5, 1.1), (0.6, 0.4)])
def test_beyond_its_ends_there_is_no_path(span: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="not within"):
        own(3, (1, 1, 2, 2), 0.0, 1.0).increment(*span)


def test_noise_is_drawn_once_on_the_way() -> None:
    """Neighbouring steps share most of the tree: what one drew the next does not draw again."""
    drawn: list[int] = []

    def begin(seed: int) -> Stream:
        drawn.append(seed)
        return PhiloxStream(seed)

    sigmas = SCHEDULES["karras"].run(20, NoiseLevels.scaled_linear())[:-1]
    tree = BrownianTree(9, (1, 1, 1, 1), start=sigmas[-1], end=sigmas[0], begin=begin)
    for high, low in pairwise(sigmas):
        tree.increment((high * low) ** 0.5, high)
        tree.increment(low, high)
    assert len(drawn) == len(set(drawn)) > 20
