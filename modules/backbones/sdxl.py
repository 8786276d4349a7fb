"""Stable Diffusion XL (Podell et al. 2023), base, refiner and what was trained from them.

The base reads CLIP ViT-L and OpenCLIP ViT-bigG, each at its last layer but one and without the final norm, joined to a
width of 2048; the refiner the latter alone. The UNet is also told bigG's pooled text and numbers on the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from modules.backbones.autoencoder import Scaled
from modules.backbones.encoders.clip import CLIP_G, CLIP_L, ClipEncoder
from modules.backbones.loaded import Built
from modules.backbones.unet import UnetModel
from modules.backbones.unet_loading import UnetAssembly
from modules.core.checkpoint import ModelInfo, Separate
from modules.core.errors import UnsupportedCheckpoint
from modules.diffusion.backbone import Batch, Placement, backbone
from modules.families.layouts.edm import LATENT_DEVIATION, LATENT_MEAN
from modules.families.layouts.parts import TEXT, TEXT_2
from modules.families.sdxl import sdxl as family

SCALING = 0.13025  # of the VAE: stabilityai/sdxl-vae's configuration
# Playground v2.5's latents, where its file does not say them: its VAE's published configuration
PLAYGROUND = Scaled(scaling=0.5, mean=(-1.6574, 1.886, -1.383, 2.5155), deviation=(8.4927, 5.9022, 6.5498, 5.2299))
SIZES, AESTHETIC = 6, 5  # how many numbers the base and the refiner are told
# What the refiner is told of how well the picture was liked, for prompt and negative prompt: the defaults of
# diffusers, ComfyUI and AUTOMATIC1111
LIKED, DISLIKED = 6.0, 2.5


class Sdxl(UnetModel):
    """A loaded SDXL checkpoint."""

    pooled = True

    def __init__(self, built: Built, readers: Sequence[ClipEncoder]) -> None:
        """Raises UnsupportedCheckpoint for a UNet that is told something else."""
        super().__init__(built, readers)
        config, pooled = self._unet.config, int(readers[-1].module.config.projection_dim)
        room = int(config["projection_class_embeddings_input_dim"]) - pooled
        self._numbers = room // int(config["addition_time_embed_dim"])
        if self._numbers not in (SIZES, AESTHETIC) or room % int(config["addition_time_embed_dim"]):
            raise UnsupportedCheckpoint(
                f"{built.info.name} is told a text of width {pooled} and {room} values more, which fit no known SDXL.",
                hint="Choose another text encoder, or another checkpoint.",
            )

    def _told(self, batch: Batch) -> dict[str, Tensor]:
        """The pooled text; the sizes that the picture has, is cut to from its top left corner, and is to have."""
        height, width = (float(side * self.downscale) for side in batch.x.shape[-2:])
        negative = batch.negative or (False,) * len(batch.x)
        ids = [self._numbers_of(height, width, each) for each in negative]
        pooled = batch.text.pooled
        if pooled is None:
            raise ValueError("a text for SDXL has a pooled vector")
        where, dtype = self.placement.unet_device, self.placement.dtype
        return {"text_embeds": pooled.to(device=where, dtype=dtype), "time_ids": self._sent(ids)}

    def _numbers_of(self, height: float, width: float, negative: bool) -> tuple[float, ...]:
        uncut = (height, width, 0.0, 0.0)
        if self._numbers == AESTHETIC:
            return (*uncut, DISLIKED if negative else LIKED)
        return (*uncut, height, width)


@backbone("sdxl")
def sdxl(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> Sdxl:
    """Load an SDXL checkpoint. Raises CheckpointError."""
    assembly = UnetAssembly(family, info, separate, placement)
    unet = assembly.unet()
    readers = assembly.readers({TEXT: CLIP_L, TEXT_2: CLIP_G})
    vae = assembly.autoencoder(_scaled(assembly))
    return Sdxl(assembly.built(unet, vae, sdxl.load), readers)


def _scaled(assembly: UnetAssembly) -> Scaled:
    """How the latents of the base lie, or Playground's, which alone predicts as EDM's do."""
    if assembly.info.prediction != "edm":
        return Scaled(scaling=SCALING)
    mean, deviation = assembly.values(LATENT_MEAN, LATENT_DEVIATION)
    return replace(PLAYGROUND, mean=mean, deviation=deviation) if mean and deviation else PLAYGROUND
