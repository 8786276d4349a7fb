"""What text encoders answer, before a family puts it together to a `Text`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """hidden: (1, 77 * chunks, width); pooled: (1, P), of the first chunk, without weights. In the compute dtype on the
    denoiser's device."""

    hidden: Tensor
    pooled: Tensor


@dataclass(frozen=True, eq=False)
class EncodedText:
    """hidden: (1, T, width), in the compute dtype on the denoiser's device. mask: (1, T) bool, what of it a denoiser
    shall see; None for all. left_out: how many tokens of the prompt found no room."""

    hidden: Tensor
    mask: Tensor | None = None
    left_out: int = 0
