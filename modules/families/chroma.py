"""Chroma (lodestones 2025): Flux without modulation layers and pooled text, under T5-XXL alone, with real guidance."""

from __future__ import annotations

from dataclasses import replace

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Part, Reads, family, foreign
from modules.families.layouts.denoisers import denoiser_kind
from modules.families.layouts.describe import described, named_steps, says
from modules.families.layouts.parts import TEXT, VAE, sort_parts

LABEL = "Chroma"
PARTS = (
    Part(name=TEXT, kind="t5", usual="t5xxl_fp8_e4m3fn.safetensors"),
    Part(name=VAE, kind="kl16", usual="ae.safetensors"),
)
READS = Reads(by="t5", length=512)
# Model card: CFG 4 to 5, 26 to 40 steps; Flash is distilled to 8 and needs no guidance
_DEFAULTS = Defaults(width=1024, height=1024, steps=26, cfg_scale=4.0, sampler="euler", schedule="beta")
_FLASH = replace(_DEFAULTS, steps=8, cfg_scale=1.0)


@family("chroma", label=LABEL, rank=45, parts=PARTS, predictions=("flow",), variants=("", "flash"), reads=READS)
def chroma(header: Header) -> ModelInfo:
    """Describe a Chroma checkpoint. Raises NotAMatch or CorruptCheckpoint."""
    kind = denoiser_kind(header)
    if kind == "chroma_radiance":
        problem = "this is Chroma Radiance, which works on pixels instead of latents, not supported yet."
        return foreign(header, "chroma", "Chroma Radiance", problem, variant="radiance")
    if kind != "chroma":
        raise NotAMatch(f"{header.file_name} has no approximator of modulations.")
    flash = says(header, "flash", "hyper", "turbo")
    defaults = replace(_FLASH, steps=named_steps(header) or _FLASH.steps) if flash else _DEFAULTS
    return described(
        header,
        sort_parts(header),
        family="chroma",
        label=LABEL,
        prediction="flow",
        variant="flash" if flash else "",
        defaults=defaults,
    )
