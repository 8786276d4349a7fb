"""LoRA and its relatives: small changes to a model, not a model."""

from __future__ import annotations

import re

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign

LABEL = "LoRA"
_KINDS = {
    "LoRA": re.compile(
        r"\.(lora_(up|down|A|B)(\.\w+)?\.weight|lora\.(up|down)\.weight|lora_linear_layer\.\w+\.weight)$"
    ),
    "LoHa": re.compile(r"\.hada_w1_[ab]$"),
    "LoKr": re.compile(r"\.lokr_w1(_[ab])?$"),
    "IA3": re.compile(r"\.on_input$"),
    "OFT": re.compile(r"\.oft_(blocks|diag)$"),
}


@family("lora", label=LABEL, rank=5)
def lora(header: Header) -> ModelInfo:
    """Recognise networks that are added to a model. Asked first: their names contain those of the models."""
    for kind, names in _KINDS.items():
        if any(names.search(key) for key in header.tensors):
            return foreign(header, "lora", kind, f"this is a {kind}, not a checkpoint: put it into models/Lora.")
    raise NotAMatch(f"{header.path.name} is no LoRA.")
