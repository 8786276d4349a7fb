"""Stable Diffusion 2 and 2.1, in epsilon and v: the text of OpenCLIP ViT-H, width 1024."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modules.backbones.autoencoder import Scaled
from modules.backbones.encoders.clip import SD2, Layer
from modules.backbones.unet import SCALING, UnetModel
from modules.backbones.unet_loading import UnetAssembly
from modules.core.checkpoint import ModelInfo, Separate
from modules.diffusion.backbone import Placement, backbone
from modules.families.layouts.parts import TEXT
from modules.families.sd2 import sd2 as family

TRAINED_LAYERS = 24  # of ViT-H's text encoder


@backbone("sd2")
def sd2(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> UnetModel:
    """Load a Stable Diffusion 2 checkpoint. Raises CheckpointError."""
    assembly = UnetAssembly(family, info, separate, placement)
    # The 2.1 model of 768 x 768, which is the one that predicts v, attends beyond float16's range
    unet = assembly.unet(upcast=info.prediction == "v")
    readers = assembly.readers({TEXT: layer_of(assembly.config(TEXT))})
    vae = assembly.autoencoder(Scaled(scaling=SCALING))
    return UnetModel(assembly.built(unet, vae, sd2.load), readers)


def layer_of(config: Mapping[str, Any]) -> Layer:
    """Which layer is read: the last of all 24 never is, and where a file leaves it out, it counts as skipped."""
    return replace(SD2, cut=0) if config.get("num_hidden_layers") == TRAINED_LAYERS else SD2
