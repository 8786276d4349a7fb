"""Forward passes as tests ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from modules.core.checkpoint import Separate
from modules.core.generation import Emphasis, FileRef, ModelChoice
from modules.core.operations import Text
from modules.diffusion.backbone import Backbone, Batch


def denoise(model: Backbone, x: Tensor, sigmas: Tensor, text: Text | Tensor, **fields: Any) -> Tensor:
    """The model's x0 of (N, C, H, W) latents under texts of one length; the fields are `Batch`'s."""
    found = text if isinstance(text, Text) else Text(text)
    return model.denoise(Batch(x=x, sigmas=sigmas, text=found, **fields))


def chosen(checkpoint: FileRef, separate: Separate[FileRef] | None = None) -> ModelChoice:
    """A checkpoint as what it is recognised."""
    return ModelChoice(checkpoint=checkpoint, separate=separate or Separate())


def encoded(model: Backbone, texts: Sequence[str], clip_skip: int = 1, emphasis: Emphasis = "Original") -> list[Tensor]:
    """(1, T, width) of each text."""
    return [text.tokens for text in model.encode(texts, clip_skip, emphasis)]
