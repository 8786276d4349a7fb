"""CLIP and OpenCLIP text encoders (Radford et al. 2021): of SD1, SD2, SDXL, SD3 and Flux."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from modules.backbones.encoders.emphasis import weigh
from modules.backbones.encoders.encoded import EncodedClip
from modules.backbones.encoders.loading import load_module
from modules.backbones.placing import text_dtype
from modules.core.checkpoint import Header, ModelInfo, Names
from modules.core.errors import RequestError
from modules.core.generation import Emphasis
from modules.diffusion.arena import Arena
from modules.diffusion.backbone import Placement
from modules.prompting.clip import Chunk, ClipTokenizer
from modules.prompting.folders import folder_of

PROJECTION = "text_projection.weight"


class Chunker(Protocol):
    """What is needed of a tokenizer: a prompt in chunks of 77 token numbers with their attention weights."""

    def chunks(self, text: str, *, brackets: bool = True) -> tuple[Chunk, ...]: ...


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Which state of an encoder a family reads.

    padding: the token that fills a chunk, None for the end token; OpenCLIP's encoders (bigG, H) were trained with 0.
    cut: layers that the network had when it was trained and the file has no longer, which count as skipped. least: the
    fewest layers that are skipped, as AUTOMATIC1111 counts: 1 takes the last. normed: whether the final norm follows.
    """

    padding: int | None = None
    cut: int = 0
    least: int = 1
    normed: bool = True


# Source: the encode_prompt of their pipelines in diffusers
SD1 = Layer()
SD2 = Layer(padding=0, cut=1, least=2)
CLIP_L = Layer(least=2, normed=False)  # SDXL's and SD3's first
CLIP_G = Layer(padding=0, least=2, normed=False)  # SDXL's and SD3's second


@functools.cache
def clip_tokenizer(padding: int | None = None) -> ClipTokenizer:
    """The bundled tokenizer, built once for each padding (0.2 s): it never changes and has no state."""
    return ClipTokenizer.load(padding=padding)


class ClipEncoder:
    """A loaded CLIP text encoder.

    module: what takes part in offloading. What it answers as `pooled` is the projected vector where the module has a
    projection (SDXL's second, both of SD3), and the normed state of the end token where it has none (Flux).
    """

    def __init__(
        self,
        module: CLIPTextModel | CLIPTextModelWithProjection,
        tokenizer: Chunker,
        placement: Placement,
        *,
        layer: Layer = SD1,
    ) -> None:
        self.module = module
        self.width = int(module.config.hidden_size)
        self._tokenizer, self._placement, self._layer = tokenizer, placement, layer
        self._projected = hasattr(module, "text_projection")

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """The token texts of a prompt, one tuple per chunk of 75."""
        return tuple(chunk.tokens for chunk in self._tokenizer.chunks(text, brackets=emphasis != "None"))

    @torch.inference_mode()
    def encode(self, text: str, clip_skip: int = 1, emphasis: Emphasis = "Original") -> EncodedClip:
        """Encode a prompt of any length. clip_skip: 1 is the last layer, 2 the one before it, as AUTOMATIC1111 counts.

        Raises RequestError for a clip skip past the layers.
        """
        layers = self.module.config.num_hidden_layers + self._layer.cut
        if not 1 <= clip_skip <= layers:
            raise RequestError("clip_skip", f"{clip_skip} layers cannot be skipped", accepted=f"1 to {layers}")
        chunks = self._tokenizer.chunks(text, brackets=emphasis != "None")
        hidden, pooled = self._states(chunks, max(clip_skip, self._layer.least) - self._layer.cut)
        if emphasis in ("Original", "No norm"):
            weights = torch.tensor([chunk.weights for chunk in chunks], dtype=torch.float32)
            hidden = weigh(hidden, weights.to(hidden.device), restore=emphasis == "Original")
        device, dtype = self._placement.unet_device, self._placement.dtype
        tokens = hidden.reshape(1, -1, hidden.shape[-1])
        return EncodedClip(hidden=tokens.to(device=device, dtype=dtype), pooled=pooled.to(device=device, dtype=dtype))

    def _states(self, chunks: Sequence[Chunk], back: int) -> tuple[Tensor, Tensor]:
        """(chunks, 77, width) of the layer that is `back`th from the end of those there are, and (1, P)."""
        device = self._placement.text_device
        ids = torch.tensor([chunk.ids for chunk in chunks], device=device)
        last_normed = back == 1 and self._layer.normed
        answer = self.module(input_ids=ids, output_hidden_states=not last_normed)
        pooled: Tensor = answer.text_embeds if self._projected else answer.pooler_output
        if last_normed:
            return answer.last_hidden_state, pooled[:1]
        hidden: Tensor = answer.hidden_states[-back].to(device)
        if self._layer.normed:
            core = getattr(self.module, "text_model", self.module)  # one level down beside a projection
            hidden = core.final_layer_norm(hidden)
        return hidden, pooled[:1]


def load_clip(
    described: ModelInfo | Header,
    names: Names,
    config: Mapping[str, Any],
    placement: Placement,
    *,
    layer: Layer = SD1,
    component: str = "text_encoder",
    tokenizer: Chunker | None = None,
    arena: Arena | None = None,
) -> ClipEncoder:
    """The CLIP text encoder in file `described`; not yet put to use. Raises CheckpointError.

    names: parameter -> tensor; with one for `text_projection.weight` it is an encoder with a projection. config: of
    transformers' CLIPTextConfig. tokenizer: that of the folder (by `component`) or the bundled one where none is given.
    """
    projected = PROJECTION in names
    model = CLIPTextModelWithProjection if projected else CLIPTextModel
    module = load_module(
        model,
        lambda given: model(CLIPTextConfig(**given)),
        described,
        names=names,
        config=config,
        placement=placement,
        dtype=text_dtype(placement),
        arena=arena,
    )
    if tokenizer is None:
        folder = folder_of(Path(described.path), component)
        own = folder and ClipTokenizer.from_folder(folder, padding=layer.padding)
        tokenizer = own or clip_tokenizer(layer.padding)
    return ClipEncoder(module, tokenizer, placement, layer=layer)
