"""Chroma (Lodestone Rock 2025): Flux schnell without CLIP and without distilled guidance, on T5 with a mask.

Of what fills a text up, the network attends to the first token alone, so no more of it is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ChromaTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor
from torch.nn import functional

from modules.backbones.autoencoder import Scaled
from modules.backbones.encoders.t5 import T5Encoder
from modules.backbones.loaded import Built
from modules.backbones.loading import Assembly
from modules.backbones.transformer import FlowTransformer, Seen, packed, places, unpacked
from modules.core.checkpoint import ModelInfo, Separate
from modules.core.generation import Emphasis
from modules.core.operations import Text
from modules.diffusion.backbone import Placement, backbone
from modules.families.chroma import chroma as family

LENGTH = family.reads.length  # T5 tokens at most
SCALING, SHIFT = 0.3611, 0.1159  # of the VAE, which is Flux's


class Chroma(FlowTransformer):
    """A loaded Chroma checkpoint: the engine's `Backbone`."""

    def __init__(self, built: Built, *, t5: T5Encoder) -> None:
        super().__init__(built, (t5.module,))
        self._t5 = t5
        self._transformer.set_attn_processor(KeyMasked())

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """T5's tokens of a prompt, in one tuple."""
        return (self._t5.tokens(text, emphasis),)

    def _read(self, text: str, clip_skip: int, emphasis: Emphasis) -> Text:
        """A text's tokens and one more, which lie at no place, so that none of the others need be there."""
        read = self._t5.encode(text, emphasis)
        seen = read.hidden.shape[1] if read.mask is None else int(read.mask.sum())
        return Text(read.hidden[:, :seen], joins="pad", notice=read.notice)

    def _predict(self, seen: Seen) -> Tensor:
        height, width = seen.x.shape[-2:]
        patches = packed(seen.x)
        mask = seen.mask
        if mask is not None:  # of the text alone: of a latent all is seen
            mask = functional.pad(mask, (0, patches.shape[1]), value=True)
        output = self._transformer(
            hidden_states=patches,
            timestep=seen.times,
            encoder_hidden_states=seen.tokens,
            txt_ids=torch.zeros(seen.tokens.shape[1], 3, device=patches.device),
            img_ids=places(height // 2, width // 2, patches.device),
            attention_mask=mask,
            return_dict=False,
        )[0]
        return unpacked(output, height, width)


class KeyMasked(FluxAttnProcessor):  # type: ignore[misc]  # diffusers is untyped
    """The usual attention, where places that are masked are not attended to, yet attend as all others do.

    Chroma's blocks mask them both ways, which leaves rows that attend to nothing: NaN on some devices, for no gain.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        """attention_mask: (N, 1, places, places) bool. The last place is of the latent and attends to all there is."""
        keys = None if attention_mask is None else attention_mask[:, :, -1:]
        return super().__call__(attn, hidden_states, encoder_hidden_states, keys, image_rotary_emb)


@backbone("chroma")
def chroma(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> Chroma:
    """Load a Chroma checkpoint. Raises CheckpointError."""
    assembly = Assembly(family, info, separate, placement)
    transformer = assembly.denoiser(ChromaTransformer2DModel, _build)
    t5 = assembly.t5("text_encoder", length=LENGTH, masked=True, spare=1)
    assembly.check_width({"text_encoder": t5.width}, transformer.config["joint_attention_dim"])
    vae = assembly.autoencoder(Scaled(scaling=SCALING, shift=SHIFT))
    built = assembly.built(transformer, vae, chroma.load)
    return Chroma(built, t5=t5)


def _build(config: Mapping[str, Any]) -> ChromaTransformer2DModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a name that diffusers itself still uses
        return ChromaTransformer2DModel(**config)
