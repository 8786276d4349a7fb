"""ControlNet, T2I adapters and IP-adapters: companions of a model, not a model."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign

LABEL = "ControlNet"
_MARKS = {
    "ControlNet": ("control_model.", "controlnet_cond_embedding.", "controlnet_blocks.", "input_hint_block."),
    "T2I adapter": ("adapter.body.", "body.0.block1."),
    "IP-Adapter": ("ip_adapter.", "image_proj."),
}


@family("controlnet", label=LABEL, rank=6)
def controlnet(header: Header) -> ModelInfo:
    """Recognise companions. Asked before the models: a ControlNet carries half of its model's UNet."""
    for label, starts in _MARKS.items():
        if any(key.startswith(starts) for key in header.tensors):
            article = "an" if label == "IP-Adapter" else "a"
            return foreign(
                header,
                "controlnet",
                label,
                f"this is {article} {label}, not a checkpoint: put it into models/ControlNet.",
            )
    raise NotAMatch(f"{header.path.name} is no ControlNet.")
