"""Skeletons: one is kept for each configuration, and what is taken of it is nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from modules.backbones.weights import skeleton

KINDS: list[tuple[type[nn.Module], dict[str, Any], Callable[[Any], nn.Module]]] = [
    (UNet2DConditionModel, {"cross_attention_dim": 8}, lambda config: UNet2DConditionModel(**config)),
    (AutoencoderKL, {"sample_size": 32}, lambda config: AutoencoderKL(**config)),
    (CLIPTextModel, {"num_hidden_layers": 2}, lambda config: CLIPTextModel(CLIPTextConfig(**config))),
]


@pytest.mark.parametrize(("kind", "config", "build"), KINDS)
def test_skeletons_share_nothing_that_changes(
    kind: type[nn.Module], config: dict[str, Any], build: Callable[[Any], nn.Module]
) -> None:
    first, second = skeleton(kind, config, build), skeleton(kind, config, build)
    modules = set(first.modules())
    assert modules.isdisjoint(second.modules())
    assert {value.data_ptr() for value in first.buffers()}.isdisjoint(value.data_ptr() for value in second.buffers())
    for module in modules:
        kept = [value for value in vars(module).values() if isinstance(value, (nn.Module, list, tuple))]
        flat = [item for value in kept for item in (value if isinstance(value, (list, tuple)) else [value])]
        assert not any(isinstance(item, nn.Module) for item in flat)
    assert first.state_dict().keys() == build(config).state_dict().keys()
    assert not first.training
    assert all(value.is_meta and not value.requires_grad for value in first.parameters())


def test_a_filled_skeleton_leaves_the_next_one_empty() -> None:
    kind, config, build = KINDS[1]
    first = skeleton(kind, config, build)
    first.to_empty(device=torch.device("cpu"))
    assert all(value.is_meta for value in skeleton(kind, config, build).parameters())
