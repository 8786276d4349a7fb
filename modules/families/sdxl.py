"""Stable Diffusion XL (Podell et al. 2023): recognised by its size embedding, under the texts of CLIP-L and OpenCLIP-G.

The refiner has a wider UNet under OpenCLIP-G alone. Pruned models (SSD-1B, Vega) have fewer layers and the same inputs.
Models that predict v (NoobAI v-pred and others) say so by a tensor `v_pred`, and by `ztsnr` that their noise levels end
in pure noise; what their files do not say may be in their names. Two were trained as Karras et al. 2022 do (EDM) and
say so by tensors: Playground v2.5 by `edm_mean` and `edm_std` of its latents, CosXL by `edm_vpred.sigma_max`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Part, family
from modules.families.layouts.describe import described, read_prediction, says, zero_terminal_snr
from modules.families.layouts.edm import edm_levels
from modules.families.layouts.parts import TEXT, TEXT_2, UNET, VAE, sort_parts
from modules.families.layouts.scheduling import FAST_VARIANTS, fast_defaults, fast_variant
from modules.families.layouts.unets import unet_of

LABEL = "Stable Diffusion XL"
_REFINER_CONTEXT = 1280
_CHANNELS = {9: "inpaint", 8: "pix2pix"}
_V_WORDS = ("v-?pred", "v-?prediction")
PARTS = (
    Part(name=TEXT, kind="clip_l", usual="clip_l.safetensors", without=("refiner",)),
    Part(name=TEXT_2, kind="clip_g", usual="clip_g.safetensors"),
    Part(name=VAE, kind="kl4", usual="sdxl_vae.safetensors"),
)


@family(
    "sdxl",
    label=LABEL,
    rank=30,
    parts=PARTS,
    predictions=("epsilon", "v", "edm"),
    variants=("", "inpaint", "refiner", "pix2pix", *FAST_VARIANTS),
)
def sdxl(header: Header) -> ModelInfo:
    """Describe an SDXL checkpoint, its refiner, or one of its variants. Raises NotAMatch or CorruptCheckpoint."""
    unet = unet_of(header)
    if unet is None or not unet.embeds_size or unet.context is None:
        raise NotAMatch(f"{header.file_name} has no {LABEL} UNet.")
    parts = sort_parts(header)
    config = parts.configs
    variant = _variant(header, unet.channels, unet.context, config)
    prediction = read_prediction(header) or ("v" if says(header, *_V_WORDS) else "epsilon")
    plain = Defaults(width=1024, height=1024, steps=25, cfg_scale=5.0 if prediction == "v" else 7.0)
    if edm := edm_levels(header):
        prediction, config["scheduler"] = edm.prediction, edm.scheduler
        plain = replace(plain, steps=edm.steps, cfg_scale=edm.cfg_scale, sampler="dpmpp_2m", schedule="karras")
    elif zero_terminal_snr(header) or (prediction == "v" and not header.configs and "v_pred" not in header.tensors):
        # Those that predict v are trained down to pure noise; a file that marks v alone knows better
        config["scheduler"] = {"zero_terminal_snr": True}
    return described(
        header,
        parts,
        family="sdxl",
        label=f"{LABEL} refiner" if variant == "refiner" else LABEL,
        prediction=prediction,
        variant=variant,
        defaults=fast_defaults(header, variant, plain, config[UNET]),
        config=config,
        problem=""
        if unet.channels in (4, *_CHANNELS)
        else f"this is {LABEL} with {unet.channels} input channels, which no variant known here has.",
    )


def _variant(header: Header, channels: int, context: int, config: dict[str, Any]) -> str:
    if channels in _CHANNELS:
        return _CHANNELS[channels]
    told = "refiner" in header.metadata.get("modelspec.architecture", "")
    alone = TEXT_2 in config and TEXT not in config and config[TEXT_2]["hidden_size"] == context
    wide = context == _REFINER_CONTEXT and len(config[UNET]["block_out_channels"]) == 4
    return "refiner" if wide or told or alone else fast_variant(header)
