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
    shall see; None for all. left_out: how many tokens of the prompt found no room. weightless: it has weights, and
    they were left out."""

    hidden: Tensor
    mask: Tensor | None = None
    left_out: int = 0
    weightless: bool = False

    @property
    def notice(self) -> str:
        """What of the prompt is not read, for people; "" where all is."""
        parts = []
        if self.left_out:
            count = f"{self.left_out} tokens" if self.left_out > 1 else "token"
            parts.append(f"The last {count} of a prompt found no room in the text encoder and had no effect.")
        if self.weightless:
            parts.append("This model's text encoder knows no weights: those in a prompt had no effect.")
        return " ".join(parts)
