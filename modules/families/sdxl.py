"""Stable Diffusion XL (Podell et al. 2023): recognised by its size embedding and its 2048-wide context."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.dims import Shapes
from modules.families.layouts.parts import sort_parts

LABEL = "Stable Diffusion XL"
_CONTEXT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_VARIANTS = {9: " inpainting", 8: " InstructPix2Pix"}


@family("sdxl", label=LABEL, rank=30)
def sdxl(header: Header) -> ModelInfo:
    """Recognise SDXL, its refiner and its variants by name."""
    shapes = Shapes(header, sort_parts(header).unet)
    if not shapes.has("add_embedding.linear_1.weight") or not shapes.has("conv_in.weight"):
        raise NotAMatch(f"{header.path.name} has no size embedding.")
    width = shapes(_CONTEXT)[1] if shapes.has(_CONTEXT) else 2048
    label = "Stable Diffusion XL refiner" if width == 1280 else LABEL
    variant = _VARIANTS.get(shapes("conv_in.weight")[1], "")
    return foreign(header, "sdxl", label, f"this is {label}{variant}, not supported yet.")
