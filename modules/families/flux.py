"""Flux (Black Forest Labs): a transformer of double and single blocks."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign

LABEL = "Flux"


@family("flux", label=LABEL, rank=50)
def flux(header: Header) -> ModelInfo:
    """Recognise Flux.1 and Flux.2 in the original and in diffusers' layout, quantised files included."""
    names = {key.removeprefix("model.diffusion_model.").removeprefix("transformer.") for key in header.tensors}
    double = any(name.startswith("double_blocks.0.img_attn.") for name in names)
    single = any(name.startswith("single_transformer_blocks.0.attn.") for name in names)
    if not (double or single):
        raise NotAMatch(f"{header.path.name} has no double and single blocks.")
    second = any(name.startswith(("double_stream_modulation", "single_stream_modulation")) for name in names)
    label = "Flux.2" if second else "Flux.1"
    return foreign(header, "flux", label, f"this is {label}, not supported yet.")
