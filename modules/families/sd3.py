"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): a transformer of joint blocks under CLIP-L, OpenCLIP-G and T5-XXL.

3 medium has 24 blocks, 3.5 medium 24 with a second attention in the first 13, 3.5 large 38. The T5 may be left out.
"""

from __future__ import annotations

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Part, Reads, family
from modules.families.layouts.denoisers import denoiser_kind
from modules.families.layouts.describe import described, says
from modules.families.layouts.parts import TEXT, TEXT_2, TEXT_3, TRANSFORMER, VAE, sort_parts

LABEL = "Stable Diffusion 3"
PARTS = (
    Part(name=TEXT, kind="clip_l", usual="clip_l.safetensors"),
    Part(name=TEXT_2, kind="clip_g", usual="clip_g.safetensors"),
    Part(name=TEXT_3, kind="t5", usual="t5xxl_fp16.safetensors", optional=True),
    Part(name=VAE, kind="kl16", usual="sd3_vae.safetensors"),
)
READS = Reads(by="t5", length=256)
# The model cards of 3 medium (28 steps, CFG 7), 3.5 large (28, 3.5 to 4.5), 3.5 medium (40, 4.5), large turbo (4, off)
_DEFAULTS = Defaults(width=1024, height=1024, steps=28, cfg_scale=5.0, sampler="euler", schedule="simple", shift=3.0)
_TURBO = Defaults(width=1024, height=1024, steps=4, cfg_scale=1.0, sampler="euler", schedule="simple", shift=3.0)


@family("sd3", label=LABEL, rank=40, parts=PARTS, predictions=("flow",), variants=("", "turbo"), reads=READS)
def sd3(header: Header) -> ModelInfo:
    """Describe an SD3 or SD3.5 checkpoint. Raises NotAMatch or CorruptCheckpoint."""
    if denoiser_kind(header) != "sd3":
        raise NotAMatch(f"{header.file_name} has no joint blocks.")
    parts = sort_parts(header)
    newer = parts.networks[TRANSFORMER].config.get("qk_norm")
    turbo = says(header, "turbo")
    return described(
        header,
        parts,
        family="sd3",
        label="Stable Diffusion 3.5" if newer else LABEL,
        prediction="flow",
        variant="turbo" if turbo else "",
        defaults=_TURBO if turbo else _DEFAULTS,
    )
