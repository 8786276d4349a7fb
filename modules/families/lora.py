"""LoRA and its relatives: small changes to a model, not a model."""

from __future__ import annotations

import re

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.lora_targets import lora_target

LABEL = "LoRA"
_KINDS = {
    "DoRA": re.compile(r"\.(dora_scale|lora_magnitude_vector(\.\w+)*)$"),
    "LoHa": re.compile(r"\.hada_w1_[ab]$"),
    "LoKr": re.compile(r"\.lokr_w1(_[ab])?$"),
    "GLoRA": re.compile(r"^(lora|lycoris)_\w+\.b[12]\.weight$"),
    "LoRA": re.compile(
        r"\.(lora_(up|down|A|B)(\.\w+)?\.weight|lora_linear_layer\.\w+\.weight|lora_[AB](\.\d+)?|lora_(up|down))$"
        r"|lora\d?\.(up|down)\.weight$"
    ),
    "IA3": re.compile(r"\.on_input$"),
    "OFT": re.compile(r"\.(oft_(blocks|diag)|oft_R(\.\w+)?(\.weight)?|boft_[Rs](\.\w+)?)$"),
    "VeRA": re.compile(r"\.vera_lambda_[bd](\.\w+)?$"),
    "full LyCORIS": re.compile(r"^(lora_unet|lora_te|diffusion_model|lycoris)[\w.]*\.(diff|diff_b|w_norm|b_norm)$"),
}
# Adapters that have LoRAs within: recognised after this
_ADAPTERS = ("ip_adapter.", "image_proj", "id_encoder.", "pulid_", "lllite_")


@family("lora", label=LABEL, rank=5)
def lora(header: Header) -> ModelInfo:
    """Recognise networks that are added to a model. Asked first: their names contain those of the models.

    `variant` is the kind of model that it was made for, as far as the names tell, which is said in the problem, too.
    """
    if any(name.startswith(_ADAPTERS) for name in header.tensors):
        raise NotAMatch(f"{header.file_name} is an adapter.")
    for kind, names in _KINDS.items():
        if any(names.search(key) for key in header.tensors):
            model = lora_target(header)
            article = "an" if kind[0] in "IO" else "a"
            whose = f" for {model}" if model else ""
            problem = f"this is {article} {kind}{whose}, not a checkpoint: put it into models/Lora."
            return foreign(header, "lora", kind, problem, variant=model)
    raise NotAMatch(f"{header.file_name} is no LoRA.")
