"""ControlNet, T2I adapters and IP-adapters: companions of a model, not a model."""

from __future__ import annotations

import re

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.denoisers import denoiser_kind

LABEL = "ControlNet"
# Beginnings or parts of names that only such files have, the most particular first. A ControlNet of a transformer keeps
# copies of its model's blocks beside layers of its own
_MARKS = {
    "Flux IP-Adapter": re.compile(r"^(ip_adapter_proj_model\.|double_blocks\.\d+\.processor\.ip_adapter)"),
    "IP-Adapter": re.compile(r"^(ip_adapter\.|image_proj\.|image_proj_model\.)"),
    "Flux Redux": re.compile(r"^redux_(up|down)\."),
    "GLIGEN adapter": re.compile(r"^position_net\.(linears|null_)"),
    "BrushNet": re.compile(r"^brushnet_(down|mid|up)_blocks?\."),
    "T2I adapter": re.compile(r"^(adapter\.)?(style_embedding$|body\.0\.(block1\.|resnets\.0\.block1\.|in_conv\.))"),
    "Control-LoRA": re.compile(r"^(lora_controlnet$|input_hint_block\..*\.up$)"),
    "ControlLLLite": re.compile(r"^lllite_"),
    "ControlNet": re.compile(
        r"^(control_model\.|controlnet_cond_embedding\.|input_hint_block\.|zero_convs\.|controlnet_blocks\."
        r"|controlnet_x_embedder\.|controlnet_single_blocks\.|controlnet_mode_embedder\.|controlnet_down_blocks\."
        r"|control_add_embedding\.|pos_embed_input\.|control_layers\.|control_all_x_embedder\.|control_noise_refiner\."
        r"|control_img_in\.|(net\.)?control_blocks\.|net\.input_hint_block\.|controlnet_patch_embedding\.|before_proj\.|vace_blocks\.|input_block\.\d+\.0\.weight$)"
    ),
    "motion module": re.compile(r"^(down_blocks|up_blocks|mid_block)\..*motion_modules\.\d"),
    "face adapter": re.compile(r"^(id_encoder\.|pulid_(encoder|ca)\.|id_adapter(_attn_layers)?\.|photomaker\.)"),
}


@family("controlnet", label=LABEL, rank=6)
def controlnet(header: Header) -> ModelInfo:
    """Recognise companions. Asked before the models: a ControlNet carries half of its model's UNet."""
    if header.configs:
        raise NotAMatch(f"{header.file_name} is a folder of a whole model.")
    for label, names in _MARKS.items():
        if any(names.search(key) for key in header.tensors):
            if label == "motion module" and "conv_in.weight" in header.tensors:  # a whole UNet with them in it
                continue
            if label == "ControlNet" and denoiser_kind(header) == "wan":  # Wan VACE, whole
                raise NotAMatch(f"{header.file_name} is a model of videos that takes pictures to follow.")
            article = "an" if label == "IP-Adapter" else "a"
            motion = label == "motion module"
            place = ": it is AnimateDiff's, which makes videos" if motion else ": put it into models/ControlNet"
            return foreign(header, "controlnet", label, f"this is {article} {label}, not a checkpoint{place}.")
    raise NotAMatch(f"{header.file_name} is no ControlNet.")
