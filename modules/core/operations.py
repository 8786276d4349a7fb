"""What a picture asks of the engine. A picture is a coroutine that yields these and is sent their answers.

Operations that can share one forward pass have equal keys; the engine flattens their rows, runs the model once and
hands each picture its part. Nothing here imports torch at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from modules.core.generation import Emphasis, GenerationPlan

if TYPE_CHECKING:
    from torch import Tensor

EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ModelKey:
    """Which loaded model: checkpoint and compute dtype ("float32"), and the parts that are not its own.

    vae, text_encoder ...: path and modification time of the separate file, "" for the checkpoint's own. taken_as:
    family, prediction and variant as which it is loaded, where that was told.
    """

    checkpoint: str
    mtime_ns: int
    vae: str = ""
    dtype: str = "float32"
    text_encoder: str = ""
    text_encoder_2: str = ""
    text_encoder_3: str = ""
    taken_as: str = ""


@dataclass(frozen=True, eq=False)
class Text:
    """What a model reads of a prompt: of one text, or of all rows of a pass, one after another.

    tokens: (N, T, width) in the compute dtype. pooled: (N, P), one vector of the whole text, or None for families that
    have none. mask: (N, T) bool, where there is a token; None where all are.

    joins: how texts of unequal length come into one pass. "repeat": repeated to their least common multiple, which is
    exact where the text is attended to by itself and unmasked (UNets); "pad": filled up at the end, for models that
    take a mask; "equal": not at all. notice: what of the text the model does not read, "" for nothing.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None
    joins: Literal["repeat", "pad", "equal"] = "repeat"
    notice: str = ""

    @property
    def length(self) -> int:
        """T."""
        return self.tokens.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(part.nbytes for part in (self.tokens, self.pooled, self.mask) if part is not None)


@dataclass(frozen=True)
class Row:
    """One row of a forward pass: a latent at a noise level under one text.

    x: (1, C, H, W), float32. text: of one prompt. weight: of this row in its guidance sum. negative: the text is the
    negative prompt. seamless: of a picture that goes on over its edges; such rows share no pass with others. perturbed:
    the self-attention of the model's middle block is replaced by the identity, for this row alone. distilled: the
    guidance scale that a distilled model takes as an input; None for the family's own. channels: (1, K, H, W), what
    inpainting and editing models see beside the latent; None for a picture made of nothing. extras: ControlNet hints.
    """

    x: Tensor
    sigma: float
    text: Text
    weight: float = 1.0
    negative: bool = False
    seamless: bool = False
    perturbed: bool = False
    distilled: float | None = None
    channels: Tensor | None = None
    extras: Mapping[str, Any] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True)
class Encode:
    """Encode texts with the model's text encoders. Answer: one `Text` of one row per text.

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
    """Decode a finished latent (1, C, H, W). Answer: the picture, (height, width, 3) uint8 tensor on the CPU.

    fp32 True: in float32 whatever the model's dtype, the retry after a NaN. seamless: as of rows.
    """

    model: ModelKey
    latent: Tensor
    fp32: bool = False
    seamless: bool = False


@dataclass(frozen=True, eq=False)
class Exclusive:
    """Make one whole picture with a model that cannot be stepped; it has the engine to itself meanwhile.

    Answer: the picture, (height, width, 3) uint8 tensor on the CPU. plan: of this picture alone. stepped(step, steps):
    called when a step is done, counted from 1. notice(text): something that the person should know.
    """

    model: ModelKey
    plan: GenerationPlan
    stepped: Callable[[int, int], None]
    notice: Callable[[str], None]


Operation = Encode | Predict | Decode | Exclusive

# Yields operations, is sent their answers (or thrown their errors), returns the decoded picture.
Picture = Generator[Operation, Any, Any]
