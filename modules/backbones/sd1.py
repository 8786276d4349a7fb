"""Stable Diffusion 1, its inpainting models and InstructPix2Pix: the text of CLIP ViT-L, 77 tokens of width 768."""

from __future__ import annotations

from functools import partial

from modules.backbones.autoencoder import Scaled
from modules.backbones.encoders.clip import SD1, Chunker
from modules.backbones.unet import SCALING, UnetModel
from modules.backbones.unet_loading import UnetAssembly
from modules.core.checkpoint import ModelInfo, Separate
from modules.diffusion.backbone import Placement, backbone
from modules.families.layouts.parts import TEXT
from modules.families.sd1 import sd1 as family


@backbone("sd1")
def sd1(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> UnetModel:
    """Load a Stable Diffusion 1 checkpoint. Raises CheckpointError."""
    return load_sd1(info, separate, placement)


def load_sd1(
    info: ModelInfo, separate: Separate[ModelInfo] | None, placement: Placement, *, tokenizer: Chunker | None = None
) -> UnetModel:
    """The same. separate None: every part is the checkpoint's own. tokenizer: CLIP's where none is given."""
    assembly = UnetAssembly(family, info, separate or Separate(), placement)
    unet = assembly.unet()
    readers = assembly.readers({TEXT: SD1}, tokenizer)
    vae = assembly.autoencoder(Scaled(scaling=SCALING))
    return UnetModel(assembly.built(unet, vae, partial(load_sd1, tokenizer=tokenizer)), readers)
