"""Perturbed self-attention (Ahn et al. 2024): every place sees itself alone, for some rows of a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from modules.core.errors import RequestError

SELF_ATTENTION = "attn1"  # diffusers' name within a transformer block; attn2 looks at the text


class PerturbedAttention:
    """A processor in the place of `usual`, which still answers for the other rows.

    An attention map that is the identity hands each place its own value: values, then the projection out.
    """

    def __init__(self, usual: Any, flags: Sequence[bool]) -> None:
        self._usual, self._flags = usual, tuple(flags)

    def __call__(self, attention: Any, hidden_states: Tensor, *args: Any, **options: Any) -> Tensor:
        """hidden_states: (N, places, width), normed. Returns the same shape."""
        usual = None if all(self._flags) else self._usual(attention, hidden_states, *args, **options)
        identity: Tensor = attention.to_v(hidden_states)
        for layer in attention.to_out:
            identity = layer(identity)
        if usual is None:
            return identity
        # Sliced by plain numbers: a mask would have to be copied to the device at every layer
        return torch.cat([(identity if flag else usual)[n : n + 1] for n, flag in enumerate(self._flags)])


def no_middle(label: str) -> RequestError:
    """The error for a model without what is perturbed."""
    return RequestError(
        "guidance.pag",
        f"{label} has no middle block whose self-attention could be perturbed",
        accepted="other guidance, or a Stable Diffusion 1, 2 or XL model",
    )


@contextmanager
def perturbed_attention(block: nn.Module, flags: Sequence[bool]) -> Iterator[None]:
    """Perturb the self-attention in `block` for the flagged rows, for as long as the context lasts.

    Raises RequestError where there is none.
    """
    layers: list[Any] = [
        layer
        for name, layer in block.named_modules()
        if name.rpartition(".")[2] == SELF_ATTENTION and isinstance(layer, Attention)
    ]
    if not layers:
        raise no_middle("this model")
    usual = [layer.processor for layer in layers]
    try:
        for layer in layers:
            layer.processor = PerturbedAttention(layer.processor, flags)
        yield
    finally:
        for layer, processor in zip(layers, usual, strict=True):
            layer.processor = processor
