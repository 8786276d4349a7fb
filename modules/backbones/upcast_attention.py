"""Attention in float32 inside a model that computes in float16.

Stable Diffusion 2.1 (v) makes products of queries and keys above 65,504, float16's largest number: black pictures.
CUDA's kernels keep these products in float32 by themselves; elsewhere that is not said.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from modules.diffusion.backbone import Placement


class UpcastAttention:
    """A processor of a transformer block's attention, which has neither a norm nor a residual of its own."""

    def __call__(
        self, attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        """hidden_states: (N, places, width), normed; encoder_hidden_states: (N, T, context), None for themselves."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        asked = ((attention.to_q, hidden_states), (attention.to_k, context), (attention.to_v, context))
        query, key, value = (
            layer(states).unflatten(-1, (attention.heads, -1)).transpose(1, 2).float() for layer, states in asked
        )
        answer = functional.scaled_dot_product_attention(query, key, value, scale=attention.scale)
        answer = answer.transpose(1, 2).flatten(2).to(hidden_states.dtype)
        for layer in attention.to_out:
            answer = layer(answer)
        return answer


def upcast_attention(unet: nn.Module, placement: Placement) -> None:
    """Let `unet` attend in float32 where its own kernels might not."""
    if placement.dtype != torch.float16 or placement.unet_device.type == "cuda":
        return
    for layer in unet.modules():
        if isinstance(layer, Attention):
            layer.set_processor(UpcastAttention())
