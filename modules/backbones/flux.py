"""Flux.1 (Black Forest Labs 2024): dev, schnell and what was made of dev.

CLIP gives one vector of the whole text, T5 its tokens; the network sees 2 x 2 latent pixels as one place in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from modules.backbones.autoencoder import Scaled
from modules.backbones.encoders.clip import ClipEncoder
from modules.backbones.encoders.t5 import T5Encoder
from modules.backbones.loaded import Built
from modules.backbones.loading import Assembly
from modules.backbones.transformer import FlowTransformer, Seen, packed, places, unpacked
from modules.core.checkpoint import ModelInfo, Separate
from modules.core.generation import Emphasis
from modules.core.operations import Text
from modules.diffusion.backbone import Placement, backbone
from modules.families.flux import flux as family

GUIDANCE = 3.5  # of dev where nothing else is said: its authors' default
MASK_CHANNELS = 64  # of an inpainting mask: 8 x 8 pixels for each latent pixel
SCALING, SHIFT = 0.3611, 0.1159  # of the VAE, as its authors publish it
DEV = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
SCHNELL = {"use_dynamic_shifting": False, "shift": 1.0}


class Flux(FlowTransformer):
    """A loaded Flux.1 checkpoint: the engine's `Backbone`."""

    def __init__(self, built: Built, *, clip: ClipEncoder, t5: T5Encoder) -> None:
        super().__init__(built, (clip.module, t5.module))
        self._clip, self._t5 = clip, t5
        self._beside: dict[tuple[int, int], Tensor] = {}  # of the latest size; encoding takes longer than a pass
        self.scheduler = SCHNELL if self.info.variant == "schnell" else DEV

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """T5's tokens of a prompt, in one tuple."""
        return (self._t5.tokens(text, emphasis),)

    def _read(self, text: str, clip_skip: int, emphasis: Emphasis) -> Text:
        """What fills a text up is attended to as well, so texts of unequal length share no pass."""
        pooled = self._clip.encode(text, clip_skip, emphasis).pooled
        read = self._t5.encode(text, emphasis)
        return Text(read.hidden, pooled, joins="equal", notice=read.notice)

    def _predict(self, seen: Seen) -> Tensor:
        x = seen.x if seen.channels is None else torch.cat([seen.x, seen.channels], 1)
        height, width = x.shape[-2:]
        output = self._transformer(
            hidden_states=packed(x),
            timestep=seen.times,
            guidance=self._guidance(seen),
            pooled_projections=seen.pooled,
            encoder_hidden_states=seen.tokens,
            txt_ids=torch.zeros(seen.tokens.shape[1], 3, device=x.device),
            img_ids=places(height // 2, width // 2, x.device),
            return_dict=False,
        )[0]
        return unpacked(output, height, width)

    def _guidance(self, seen: Seen) -> Tensor | None:
        if not self._transformer.config.guidance_embeds:
            return None
        device = seen.x.device
        told = self._guidance_of(seen.distilled, len(seen.x), GUIDANCE)
        return torch.tensor(told, pin_memory=device.type == "cuda").to(device, non_blocking=True)

    def _nothing(self, x: Tensor) -> Tensor | None:
        """For fill, a mask of ones beside an encoded grey picture: all is to be made anew."""
        if self._transformer.config.in_channels == 4 * self.latent_channels:
            return None
        height, width = x.shape[-2:]
        if (height, width) not in self._beside:
            grey = torch.full((1, 3, height * self.downscale, width * self.downscale), 0.5)
            latent = self.encode_picture(grey).to(x.device)
            mask = torch.ones(1, MASK_CHANNELS, height, width, device=x.device)
            self._beside = {(height, width): torch.cat([latent, mask], 1)}
        return self._beside[height, width].expand(len(x), -1, -1, -1)


@backbone("flux")
def flux(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> Flux:
    """Load a Flux.1 checkpoint. Raises CheckpointError."""
    assembly = Assembly(family, info, separate, placement)
    transformer = assembly.denoiser(FluxTransformer2DModel, _build)
    clip = assembly.clip("text_encoder", projected=False)
    t5 = assembly.t5("text_encoder_2", length=family.reads.of(info.variant))
    assembly.check_width({"text_encoder": clip.width}, transformer.config["pooled_projection_dim"])
    assembly.check_width({"text_encoder_2": t5.width}, transformer.config["joint_attention_dim"])
    vae = assembly.autoencoder(Scaled(scaling=SCALING, shift=SHIFT))
    built = assembly.built(transformer, vae, flux.load)
    return Flux(built, clip=clip, t5=t5)


def _build(config: Mapping[str, Any]) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(**config)
