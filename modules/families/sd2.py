"""Stable Diffusion 2 (Stability AI 2022): Stable Diffusion 1's UNet under OpenCLIP ViT-H, whose context is 1024 wide.

"2-base" predicts noise at 512 x 512, "2" and "2.1" the velocity v at 768 x 768, and their tensors have the same names
and shapes. What a file is says its metadata (`modelspec.prediction_type`, or the resolution), else the words of its
name, else it is taken for the 768 one, as most are; the prediction can be set per file.
"""

from __future__ import annotations

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Part, family, foreign
from modules.families.layouts.describe import described, read_prediction, says
from modules.families.layouts.parts import TEXT, UNET, VAE, sort_parts
from modules.families.layouts.scheduling import FAST_VARIANTS, fast_defaults, fast_variant
from modules.families.layouts.unets import unet_of

LABEL = "Stable Diffusion 2"
CONTEXT = 1024
_NAMED = {5: "depth-to-image", 7: "upscaler", 8: "InstructPix2Pix"}
_V_WORDS, _BASE_WORDS = ("768", "v-?pred", "2-1-v(?![a-z0-9])"), ("base", "512", "inpaint", "turbo", "eps")
PARTS = (
    Part(name=TEXT, kind="clip_h", usual="clip_h.safetensors"),
    Part(name=VAE, kind="kl4", usual="vae-ft-mse-840000-ema-pruned.safetensors"),
)


@family(
    "sd2", label=LABEL, rank=20, parts=PARTS, predictions=("epsilon", "v"), variants=("", "inpaint", *FAST_VARIANTS)
)
def sd2(header: Header) -> ModelInfo:
    """Describe a Stable Diffusion 2 or 2.1 checkpoint. Raises NotAMatch or CorruptCheckpoint."""
    unet = unet_of(header)
    told = header.metadata.get("modelspec.architecture", "").startswith("stable-diffusion-v2")
    if unet is None or not unet.linear or unet.context is None:
        raise NotAMatch(f"{header.file_name} has no {LABEL} UNet.")
    # unCLIP's picture is a class in diffusers' layout, and lies where SDXL has its sizes in the original one
    if unet.embeds_class or (unet.embeds_size and unet.context == CONTEXT):
        kind = _NAMED.get(unet.channels, "unCLIP")
        return foreign(header, "sd2", LABEL, f"this is {LABEL} {kind}, not supported yet.", variant=kind)
    text = header.configs.get(TEXT, {})  # of a folder, which says by its activation that this is OpenCLIP's
    told = told or (text.get("hidden_act") == "gelu" and text.get("hidden_size") == unet.context)
    if unet.embeds_size or (unet.context != CONTEXT and not told):
        raise NotAMatch(f"{header.file_name} has no context of width {CONTEXT}.")
    if unet.channels in _NAMED:
        kind = _NAMED[unet.channels]
        return foreign(header, "sd2", LABEL, f"this is {LABEL} {kind}, not supported yet.", variant=kind)
    parts = sort_parts(header)
    variant = "inpaint" if unet.channels == 9 else fast_variant(header)
    prediction = _prediction(header, variant)
    config = parts.configs
    if prediction == "v":  # its attention overflows half precision (as the published configuration of 2.1 says)
        config[UNET]["upcast_attention"] = True
    side = 768 if prediction == "v" and not says(header, "512") else 512
    return described(
        header,
        parts,
        family="sd2",
        label=LABEL,
        prediction=prediction,
        variant=variant,
        defaults=fast_defaults(header, variant, Defaults(width=side, height=side), config[UNET]),
        config=config,
    )


def _prediction(header: Header, variant: str) -> str:
    if told := read_prediction(header):
        return told
    if variant:  # the inpainting model and SD Turbo predict noise
        return "epsilon"
    resolution = header.metadata.get("modelspec.resolution", "")
    if "512" in resolution or "768" in resolution:
        return "v" if "768" in resolution else "epsilon"
    if says(header, *_V_WORDS):
        return "v"
    return "epsilon" if says(header, *_BASE_WORDS) else "v"
