"""Qwen-Image (Alibaba 2025; 2512 is its December release): double blocks throughout, under Qwen2.5-VL 7B.

Qwen-Image-Edit has the same tensors and expects a picture: its name tells. Qwen-Image 2 is another architecture.
"""

from __future__ import annotations

from dataclasses import replace

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Part, Reads, family, foreign
from modules.families.layouts.denoisers import denoiser_kind
from modules.families.layouts.describe import described, named_steps, says
from modules.families.layouts.parts import TEXT, TRANSFORMER, VAE, sort_parts
from modules.families.layouts.pipelines import pipeline

LABEL = "Qwen-Image"
PARTS = (
    Part(name=TEXT, kind="qwen2_5_vl", usual="qwen_2.5_vl_7b_fp8_scaled.safetensors"),
    Part(name=VAE, kind="qwen", usual="qwen_image_vae.safetensors"),
)
# Model card: 50 steps with CFG 4 at 1328 x 1328; 20 steps are near to it. Lightning: 4 or 8 steps without guidance
_DEFAULTS = Defaults(width=1328, height=1328, steps=20, cfg_scale=4.0, sampler="euler", schedule="simple")
_LIGHTNING = replace(_DEFAULTS, steps=8, cfg_scale=1.0)
_MAGE_FLOW = 128  # input channels of a model with the same tensors, on other latents
_EDIT_MARKS = ("__index_timestep_zero__", "model.diffusion_model.__index_timestep_zero__")


@family(
    "qwen_image",
    label=LABEL,
    rank=60,
    parts=PARTS,
    predictions=("flow",),
    variants=("", "edit", "layered", "lightning"),
    reads=Reads(by="qwen_image", length=512),
)
def qwen_image(header: Header) -> ModelInfo:
    """Describe a Qwen-Image checkpoint. Raises NotAMatch or CorruptCheckpoint."""
    if denoiser_kind(header) != "qwen_image":
        raise NotAMatch(f"{header.file_name} has no double blocks of {LABEL}.")
    parts = sort_parts(header)
    if parts.networks[TRANSFORMER].config["in_channels"] == _MAGE_FLOW:
        why = "cannot be run here: diffusers has no pipeline for it"
        return foreign(header, "qwen_image", "Mage-Flow", f"this is Mage-Flow, which {why}.")
    variant, problem = "", ""
    if "Layered" in pipeline(header) or any("addition_t_embedding" in name for name in header.tensors):
        variant, problem = "layered", f"this is {LABEL}-Layered, which takes pictures apart, not supported yet."
    elif "Edit" in pipeline(header) or says(header, "edit") or any(mark in header.tensors for mark in _EDIT_MARKS):
        variant, problem = "edit", f"this is {LABEL}-Edit, which changes a picture by a text, not supported yet."
    elif says(header, "lightning"):
        variant = "lightning"
    fast = says(header, "lightning")
    return described(
        header,
        parts,
        family="qwen_image",
        label=LABEL,
        prediction="flow",
        variant=variant,
        defaults=replace(_LIGHTNING, steps=named_steps(header) or _LIGHTNING.steps) if fast else _DEFAULTS,
        problem=problem,
    )
