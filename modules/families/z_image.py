"""Z-Image (Tongyi 2025): a single-stream transformer of 6 billion parameters under Qwen3 4B.

Turbo is distilled to eight steps without guidance; base has the same tensors and wants guidance: the name tells.
"""

from __future__ import annotations

from dataclasses import replace

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Part, Reads, family
from modules.families.layouts.denoisers import denoiser_kind
from modules.families.layouts.describe import described, says
from modules.families.layouts.parts import TEXT, VAE, sort_parts

LABEL = "Z-Image"
PARTS = (
    Part(name=TEXT, kind="qwen3", usual="qwen_3_4b.safetensors"),
    Part(name=VAE, kind="kl16", usual="ae.safetensors"),
)
READS = Reads(by="z_image", length=512)
# Model cards: Turbo in 9 scheduler steps, of which the last does nothing (8 evaluations), shift 3, without guidance;
# base in 28 to 50 steps with CFG 3 to 5, shift 6
_TURBO = Defaults(width=1024, height=1024, steps=8, cfg_scale=1.0, sampler="euler", schedule="simple", shift=3.0)
_BASE = replace(_TURBO, steps=30, cfg_scale=4.0, shift=6.0)


@family("z_image", label=LABEL, rank=55, parts=PARTS, predictions=("flow",), variants=("turbo", ""), reads=READS)
def z_image(header: Header) -> ModelInfo:
    """Describe a Z-Image checkpoint. Raises NotAMatch or CorruptCheckpoint.

    One whose name says neither is taken for Turbo, which came first and most files are.
    """
    if denoiser_kind(header) != "z_image":
        raise NotAMatch(f"{header.file_name} has no stream of {LABEL}.")
    base = says(header, "base(?![a-z])", "undistilled", "de-?turbo") and not says(header, "base-turbo")
    if not says(header, "turbo") and header.configs.get("scheduler", {}).get("shift") == 6.0:
        base = True
    return described(
        header,
        sort_parts(header),
        family="z_image",
        label=LABEL,
        prediction="flow",
        variant="" if base else "turbo",
        defaults=_BASE if base else _TURBO,
    )
