"""What a picture asks of the engine. A picture is a coroutine that yields these and is sent their answers.

Operations that can share one forward pass have equal keys; the engine flattens their rows, runs the model once and
hands each picture its part. Nothing here imports torch at run time.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from modules.core.generation import Emphasis

if TYPE_CHECKING:
    from torch import Tensor

EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ModelKey:
    """Which loaded model: checkpoint and compute dtype ("float32"), and VAE and text encoder that are not its own.

    vae, text_encoder: path and modification time of the separate file, "" for the checkpoint's own.
    """

    checkpoint: str
    mtime_ns: int
    vae: str = ""
    dtype: str = "float32"
    text_encoder: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a forward pass: a latent at a noise level under one text.

    x: (1, C, H, W), float32. text: (1, tokens, width) in the compute dtype. weight: of this row in its guidance sum.
    seamless: of a picture that goes on over its edges; such rows share no pass with others. perturbed: the
    self-attention of the model's middle block is replaced by the identity, for this row alone. extras: ControlNet
    hints, inpaint channels.
    """

    x: Tensor
    sigma: float
    text: Tensor
    weight: float = 1.0
    seamless: bool = False
    perturbed: bool = False
    extras: Mapping[str, Any] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True)
class Encode:
    """Encode texts with the model's text encoder. Answer: one (1, tokens, width) tensor per text.

    texts: what is seen first of the prompt, then of the negative prompt, then all others.
    """

    model: ModelKey
    texts: tuple[str, ...]
    clip_skip: int = 1
    emphasis: Emphasis = "Original"


@dataclass(frozen=True)
class Predict:
    """Denoise rows. Answer: one (1, C, H, W) float32 prediction of x0 per row. strict: share the pass with no one.

    left: the sampler's steps left, this one included; 0 where it cannot tell.
    """

    model: ModelKey
    rows: tuple[Row, ...]
    patches: tuple[Any, ...] = ()
    strict: bool = False
    left: int = 0


@dataclass(frozen=True)
class Decode:
    """Decode a finished latent (1, C, H, W). Answer: (H * 8, W * 8, 3) uint8 tensor on the CPU.

    fp32 True: in float32 whatever the model's dtype, the retry after a NaN. seamless: as of rows.
    """

    model: ModelKey
    latent: Tensor
    fp32: bool = False
    seamless: bool = False


Operation = Encode | Predict | Decode

# Yields operations, is sent their answers (or thrown their errors), returns the decoded picture.
Picture = Generator[Operation, Any, Any]
