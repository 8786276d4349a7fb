"""Stable Diffusion 2: Stable Diffusion 1's UNet under OpenCLIP ViT-H, whose context is 1024 wide."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.dims import Shapes
from modules.families.layouts.parts import sort_parts

LABEL = "Stable Diffusion 2"
_CONTEXT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_VARIANTS = {5: " depth", 7: " upscaler", 9: " inpainting"}


@family("sd2", label=LABEL, rank=20)
def sd2(header: Header) -> ModelInfo:
    """Recognise SD2 and SD2.1, base and 768, and their variants by name."""
    shapes = Shapes(header, sort_parts(header).unet)
    if not shapes.has(_CONTEXT) or shapes(_CONTEXT)[1] != 1024 or shapes.has("add_embedding.linear_1.weight"):
        raise NotAMatch(f"{header.path.name} has no context of width 1024.")
    channels = shapes("conv_in.weight")[1] if shapes.has("conv_in.weight") else 4
    return foreign(header, "sd2", LABEL, f"this is {LABEL}{_VARIANTS.get(channels, '')}, not supported yet.")
