"""LoRA and its relatives: small changes to a model, not a model."""

from __future__ import annotations

import re

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign

LABEL = "LoRA"
_KINDS = {
    "DoRA": re.compile(r"\.(dora_scale|lora_magnitude_vector(\.\w+)*)$"),
    "LoHa": re.compile(r"\.hada_w1_[ab]$"),
    "LoKr": re.compile(r"\.lokr_w1(_[ab])?$"),
    "LoRA": re.compile(
        r"\.(lora_(up|down|A|B)(\.\w+)?\.weight|lora\.(up|down)\.weight|lora_linear_layer\.\w+\.weight|lora_[AB])$"
    ),
    "IA3": re.compile(r"\.on_input$"),
    "OFT": re.compile(r"\.(oft_(blocks|diag)|oft_R\.weight)$"),
    "difference": re.compile(r"^(lora_unet|lora_te|diffusion_model|lycoris)[\w.]*\.(diff|diff_b)$"),
}
# What the names of a network's layers say of the model that it is for, the most particular first
_FOR = (
    ("Flux", re.compile(r"lora_unet_(double|single)_blocks_\d|(double|single)_blocks\.\d|single_transformer_blocks\.")),
    ("Qwen-Image", re.compile(r"transformer_blocks[._]\d+[._](img|txt)_(mod|mlp)")),
    ("Stable Diffusion 3", re.compile(r"joint_blocks[._]\d|transformer_blocks\.\d+\.attn\.add_[qkv]_proj")),
    ("Z-Image", re.compile(r"(layers|context_refiner|noise_refiner)[._]\d+[._](attention|feed_forward)[._]")),
    ("HunyuanVideo", re.compile(r"individual_token_refiner")),
    ("Wan", re.compile(r"blocks[._]\d+[._](self_attn|cross_attn)[._]")),
    ("SDXL", re.compile(r"lora_te2_|text_encoder_2\.|(input|output)_blocks_\d+_1_transformer_blocks_[2-9]"
                        r"|(down|up)_blocks[._]\d[._]attentions[._]\d[._]transformer_blocks[._][2-9]")),
    ("Stable Diffusion 1 or 2", re.compile(r"lora_unet_|unet\.|lora_te_text_model_|text_encoder\.")),
)  # fmt: skip


@family("lora", label=LABEL, rank=5)
def lora(header: Header) -> ModelInfo:
    """Recognise networks that are added to a model. Asked first: their names contain those of the models.

    `variant` is the kind of model that it was made for, as far as the names tell, which is said in the problem, too.
    """
    for kind, names in _KINDS.items():
        if any(names.search(key) for key in header.tensors):
            model = next((name for name, mark in _FOR if any(mark.search(key) for key in header.tensors)), "")
            whose = f" for {model}" if model else ""
            problem = f"this is a {kind}{whose}, not a checkpoint: put it into models/Lora."
            return foreign(header, "lora", kind, problem, variant=model)
    raise NotAMatch(f"{header.file_name} is no LoRA.")
