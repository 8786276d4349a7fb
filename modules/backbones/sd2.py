"""Stable Diffusion 2 and 2.1, in epsilon and v: the text of OpenCLIP ViT-H, width 1024."""

from __future__ import annotations

from dataclasses import replace

from modules.backbones.encoders.clip import SD2, Layer
from modules.backbones.unet import UnetModel
from modules.backbones.unet_loading import Recipe, load
from modules.core.checkpoint import ModelInfo, Separate
from modules.diffusion.backbone import Placement, backbone
from modules.families.layouts.parts import TEXT

TRAINED_LAYERS = 24  # of ViT-H's text encoder


@backbone("sd2")
def sd2(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> UnetModel:
    """Load a Stable Diffusion 2 checkpoint. Raises CheckpointError."""
    # The 2.1 model of 768 x 768, which is the one that predicts v, attends beyond float16's range
    recipe = Recipe(texts={TEXT: layer_of(separate.text_encoder or info)}, upcast=info.prediction == "v")
    return load(recipe, info, separate, placement)


def layer_of(source: ModelInfo) -> Layer:
    """Which layer is read: the last of all 24 never is, and where a file leaves it out, it counts as skipped."""
    layers = source.config.get(TEXT, {}).get("num_hidden_layers")
    return replace(SD2, cut=0) if layers == TRAINED_LAYERS else SD2
