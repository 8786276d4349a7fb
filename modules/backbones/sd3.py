"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): three text encoders, of which T5 may be left out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor
from torch.nn import functional

from modules.backbones.autoencoder import Scaled
from modules.backbones.encoders.clip import CLIP_G, CLIP_L, ClipEncoder
from modules.backbones.encoders.encoded import EncodedText
from modules.backbones.encoders.t5 import T5Encoder
from modules.backbones.loaded import Built
from modules.backbones.loading import Assembly
from modules.backbones.transformer import FlowTransformer, Seen
from modules.core.checkpoint import ModelInfo, Separate
from modules.core.errors import RequestError
from modules.core.generation import Emphasis
from modules.core.operations import Text
from modules.core.sampling import NoiseLevels
from modules.diffusion.backbone import Placement, backbone
from modules.families.sd3 import sd3 as family

LENGTH = family.reads.length  # T5 tokens, which shorter texts are filled up to
SCALING, SHIFT = 1.5305, 0.0609  # of the VAE, as its authors publish it


class Sd3(FlowTransformer):
    """A loaded Stable Diffusion 3 checkpoint: the engine's `Backbone`. t5 None: zeros take its place."""

    scheduler = MappingProxyType({"shift": 3.0})

    def __init__(self, built: Built, *, clip_l: ClipEncoder, clip_g: ClipEncoder, t5: T5Encoder | None) -> None:
        super().__init__(built, [reader.module for reader in (clip_l, clip_g, t5) if reader is not None])
        self._clip_l, self._clip_g, self._t5 = clip_l, clip_g, t5

    def noise_levels(self, width: int, height: int, shift: float | None = None) -> NoiseLevels:
        """See `FlowTransformer`. Raises RequestError for pictures larger than the places that the network knows."""
        most = self._transformer.config.pos_embed_max_size * self.patch * self.downscale
        for field, pixels in (("width", width), ("height", height)):
            if pixels > most:
                raise RequestError(field, f"{self.info.label} knows no places beyond {most}", accepted=f"up to {most}")
        return super().noise_levels(width, height, shift)

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """CLIP's tokens of a prompt, one tuple per chunk of 75."""
        return self._clip_l.tokens(text, emphasis)

    def _read(self, text: str, clip_skip: int, emphasis: Emphasis) -> Text:
        """CLIP's tokens, filled up with zeros to T5's width, then T5's, which are attended to with what fills them."""
        first = self._clip_l.encode(text, clip_skip, emphasis)
        second = self._clip_g.encode(text, clip_skip, emphasis)
        width = self._transformer.config.joint_attention_dim
        clip = torch.cat([first.hidden, second.hidden], -1)
        clip = functional.pad(clip, (0, width - clip.shape[-1]))
        read = EncodedText(clip.new_zeros(1, LENGTH, width)) if self._t5 is None else self._t5.encode(text, emphasis)
        pooled = torch.cat([first.pooled, second.pooled], -1)
        return Text(torch.cat([clip, read.hidden], 1), pooled, joins="equal", notice=read.notice)

    def _predict(self, seen: Seen) -> Tensor:
        output: Tensor = self._transformer(
            hidden_states=seen.x,
            timestep=seen.times * 1000,  # of the thousand that it was trained on
            encoder_hidden_states=seen.tokens,
            pooled_projections=seen.pooled,
            return_dict=False,
        )[0]
        return output


@backbone("sd3")
def sd3(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> Sd3:
    """Load a Stable Diffusion 3 checkpoint. Raises CheckpointError.

    Both CLIPs are read at the last layer but one, without the final norm. CLIP-L's pooled vector is taken as it is, as
    its authors do (sd3-ref), save where a folder in diffusers' layout brings a projection for it.
    """
    assembly = Assembly(family, info, separate, placement)
    transformer = assembly.denoiser(SD3Transformer2DModel, build_sd3)
    clip_l = assembly.clip("text_encoder", projected=assembly.own("text_encoder"), layer=CLIP_L)
    clip_g = assembly.clip("text_encoder_2", projected=True, layer=CLIP_G)
    t5 = assembly.t5("text_encoder_3", length=LENGTH) if assembly.has("text_encoder_3") else None
    widths = transformer.config
    clips = {"text_encoder": clip_l.width, "text_encoder_2": clip_g.width}
    assembly.check_width(clips, widths["pooled_projection_dim"])
    if t5:
        assembly.check_width({"text_encoder_3": t5.width}, widths["joint_attention_dim"])
    vae = assembly.autoencoder(Scaled(scaling=SCALING, shift=SHIFT))
    built = assembly.built(transformer, vae, sd3.load)
    return Sd3(built, clip_l=clip_l, clip_g=clip_g, t5=t5)


def build_sd3(config: Mapping[str, Any]) -> SD3Transformer2DModel:
    """A network without its table of places, which is a buffer of 226 MB for SD3.5 and comes from the file."""
    side = config["pos_embed_max_size"]
    model = SD3Transformer2DModel(**{**config, "pos_embed_max_size": 1})
    model.register_to_config(pos_embed_max_size=side)
    model.pos_embed.pos_embed_max_size = side
    model.pos_embed.pos_embed = torch.empty(1, side * side, model.inner_dim, device="meta")
    return model
