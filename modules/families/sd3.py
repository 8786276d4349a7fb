"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): a transformer of joint blocks."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign

LABEL = "Stable Diffusion 3"
_MARKS = (
    "joint_blocks.0.x_block.attn.qkv.weight",
    "transformer_blocks.0.attn.add_q_proj.weight",
)


@family("sd3", label=LABEL, rank=40)
def sd3(header: Header) -> ModelInfo:
    """Recognise SD3 and SD3.5 in the original and in diffusers' layout."""
    names = {key.removeprefix("model.diffusion_model.").removeprefix("transformer.") for key in header.tensors}
    joint = _MARKS[0] in names
    # Flux has the same names in diffusers' layout, and single blocks besides
    double = _MARKS[1] in names and "pos_embed.proj.weight" in names
    if not (joint or double):
        raise NotAMatch(f"{header.path.name} has no joint blocks.")
    newer = any(".attn.ln_q." in name or ".attn.norm_q." in name for name in names)
    label = "Stable Diffusion 3.5" if newer else LABEL
    return foreign(header, "sd3", label, f"this is {label}, not supported yet.")
