"""Z-Image (Tongyi 2025), Turbo and base: text and picture in one stream, under a Qwen3 language model.

Guidance is counted as everywhere here: a scale of 1 is none. Its authors' `guidance_scale` is one less.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from torch import Tensor

from modules.backbones.autoencoder import Scaled
from modules.backbones.loading import Assembly
from modules.backbones.qwen_texts import ReadByQwen
from modules.backbones.transformer import Seen
from modules.core.checkpoint import ModelInfo, Separate
from modules.diffusion.backbone import Placement, backbone
from modules.families.layouts.parts import TEXT
from modules.families.z_image import z_image as family
from modules.prompting.qwen import Z_IMAGE

SCALING, SHIFT = 0.3611, 0.1159  # of the VAE, which is Flux's


class ZImage(ReadByQwen):
    """A loaded Z-Image checkpoint: the engine's `Backbone`."""

    scheduler = MappingProxyType({"shift": 3.0})

    def _predict(self, seen: Seen) -> Tensor:
        """The network counts time from noise to picture, and predicts x0 - n; it takes texts of any lengths."""
        texts = list(seen.tokens)
        if seen.mask is not None:
            texts = [text[:length] for text, length in zip(texts, seen.mask.sum(1).tolist(), strict=True)]
        output = self._transformer(
            x=list(seen.x.unsqueeze(2)), t=1 - seen.times, cap_feats=texts, return_dict=False
        )[0]  # fmt: skip
        return -torch.stack(output).squeeze(2)


@backbone("z_image")
def z_image(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> ZImage:
    """Load a Z-Image checkpoint. Raises CheckpointError."""
    assembly = Assembly(family, info, separate, placement)
    transformer = assembly.denoiser(ZImageTransformer2DModel, _build)
    text = assembly.qwen(TEXT, kind="qwen3", template=Z_IMAGE)
    assembly.check_width({TEXT: text.width}, transformer.config.cap_feat_dim)
    vae = assembly.autoencoder(Scaled(scaling=SCALING, shift=SHIFT))
    return ZImage(assembly.built(transformer, vae, z_image.load), text=text)


def _build(config: Mapping[str, Any]) -> ZImageTransformer2DModel:
    return ZImageTransformer2DModel(**config)
