"""What attention weights do to the states of a text encoder."""

from __future__ import annotations

import math

import torch

from modules.backbones.encoders.emphasis import weigh


def test_weights_multiply_and_the_mean_is_restored() -> None:
    hidden = torch.randn(2, 77, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    weights = torch.ones(2, 77)
    weights[1, 3] = 1.5
    answer = weigh(hidden, weights)
    assert torch.equal(answer[0], hidden[0])
    assert math.isclose(float(answer[1].mean()), float(hidden[1].mean()), rel_tol=1e-4)
    ratio = answer[1] / hidden[1]
    assert torch.allclose(ratio[3] / ratio[0], torch.full((8,), 1.5), atol=1e-4)


def test_without_norm_weights_multiply_alone() -> None:
    hidden = torch.randn(1, 77, 8, generator=torch.Generator().manual_seed(0))
    weights = torch.linspace(0.5, 1.5, 77).reshape(1, 77)
    assert torch.equal(weigh(hidden, weights, restore=False), hidden * weights.unsqueeze(-1))
