"""Flux.1 (Black Forest Labs 2024): a transformer of double and single blocks under CLIP-L and T5-XXL.

dev was distilled with a guidance scale as an input, schnell to four steps without; Krea and most fine-tunes are dev.
Fill has 384 input channels, Canny and Depth 128. Kontext has dev's tensors exactly: its name tells. Lite models have
fewer blocks and are read by their depth.
"""

from __future__ import annotations

from dataclasses import replace

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Part, Reads, family
from modules.families.layouts.denoisers import denoiser_kind
from modules.families.layouts.describe import described, named_steps, says
from modules.families.layouts.parts import TEXT, TEXT_2, TRANSFORMER, VAE, sort_parts
from modules.families.layouts.pipelines import pipeline

LABEL = "Flux.1"
PARTS = (
    Part(name=TEXT, kind="clip_l", usual="clip_l.safetensors"),
    Part(name=TEXT_2, kind="t5", usual="t5xxl_fp8_e4m3fn.safetensors"),
    Part(name=VAE, kind="kl16", usual="ae.safetensors"),
)
READS = Reads(by="t5", length=512, lengths={"schnell": 256})
# Model cards: dev with a distilled guidance of 3.5 (Fill: 30, Kontext: 2.5), schnell in 1 to 4 steps without any
_DEV = Defaults(
    width=1024, height=1024, steps=20, cfg_scale=1.0, sampler="euler", schedule="simple", distilled_cfg_scale=3.5
)
_DEFAULTS = {
    "dev": _DEV,
    "schnell": replace(_DEV, steps=4, distilled_cfg_scale=None),
    "fill": replace(_DEV, distilled_cfg_scale=30.0),
    "kontext": replace(_DEV, distilled_cfg_scale=2.5),
    "control": replace(_DEV, distilled_cfg_scale=10.0),
}


@family("flux", label=LABEL, rank=50, parts=PARTS, predictions=("flow",), variants=tuple(_DEFAULTS), reads=READS)
def flux(header: Header) -> ModelInfo:
    """Describe a Flux.1 checkpoint. Raises NotAMatch or CorruptCheckpoint."""
    if denoiser_kind(header) != "flux":
        raise NotAMatch(f"{header.file_name} has no double and single blocks of {LABEL}.")
    parts = sort_parts(header)
    config = parts.networks[TRANSFORMER].config
    inputs, outputs = config["in_channels"], config.get("out_channels") or config["in_channels"]
    variant = _variant(header, inputs // outputs, guided=bool(config["guidance_embeds"]))
    problem = ""
    if variant == "control":
        problem = f"this is {LABEL} Canny or Depth, which draws after a control picture, not supported yet."
    defaults = _DEFAULTS[variant]
    if variant == "dev" and (steps := named_steps(header)) and says(header, "hyper", "turbo", "lightning", "schnell"):
        defaults = replace(defaults, steps=steps)
    return described(
        header,
        parts,
        family="flux",
        label=LABEL,
        prediction="flow",
        variant=variant,
        defaults=defaults,
        problem=problem,
    )


def _variant(header: Header, times: int, *, guided: bool) -> str:
    """times: how many times as many channels come in as go out."""
    if times > 1:
        return "control" if times == 2 else "fill"
    if not guided:
        return "schnell"
    return "kontext" if says(header, "kontext") or "Kontext" in pipeline(header) else "dev"
