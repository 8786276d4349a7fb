"""Stable Diffusion 1 (Rombach et al. 2022): a UNet under CLIP ViT-L text, 4-channel latents.

Recognised by structure: convolutional projections around cross-attention, no class or size embedding, and a context
width that is CLIP-L's 768 or that of the CLIP text encoder in the same file (smaller models of this architecture;
where they come without one, their `modelspec.architecture` says what they are). A text encoder and a VAE may be
missing: they are then taken from files of their own.
"""

from __future__ import annotations

from dataclasses import replace

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import CorruptCheckpoint, NotAMatch
from modules.core.family import Part, family
from modules.families.layouts.describe import described, read_prediction, says, zero_terminal_snr
from modules.families.layouts.parts import TEXT, UNET, VAE, Parts, sort_parts
from modules.families.layouts.scheduling import FAST_VARIANTS, fast_defaults, fast_variant
from modules.families.layouts.shapes import told_config
from modules.families.layouts.unets import unet_of

LABEL = "Stable Diffusion 1"
CLIP_L_WIDTH = 768
_CHANNELS = {9: "inpaint", 8: "pix2pix"}
# Beginnings of names of what has this UNet and draws after a picture -> what it is called
_AFTER_PICTURES = {"cc_projection.": "Zero123", "cond_stage_model.model.visual.": "Image Variations"}
PARTS = (
    Part(name=TEXT, kind="clip_l", usual="clip_l.safetensors"),
    Part(name=VAE, kind="kl4", usual="vae-ft-mse-840000-ema-pruned.safetensors"),
)


@family(
    "sd1",
    label=LABEL,
    rank=10,
    parts=PARTS,
    predictions=("epsilon", "v"),
    variants=("", "inpaint", "pix2pix", *FAST_VARIANTS),
)
def sd1(header: Header) -> ModelInfo:
    """Describe a Stable Diffusion 1 checkpoint. Raises NotAMatch or CorruptCheckpoint."""
    _check_family(header)
    parts = sort_parts(header)
    unet = parts.networks[UNET].config
    channels = unet["in_channels"]
    variant = _CHANNELS.get(channels) or fast_variant(header)
    problem = _other_task(header)
    if not problem and channels not in (4, *_CHANNELS):
        problem = f"this is {LABEL} with {channels} input channels, which no variant known here has."
    config = parts.configs
    if zero_terminal_snr(header):
        config["scheduler"] = {"zero_terminal_snr": True}
    return described(
        header,
        parts,
        family="sd1",
        label=LABEL,
        prediction=read_prediction(header) or "epsilon",
        variant=variant,
        defaults=_defaults(header, parts, variant),
        config=config,
        problem=problem,
    )


def _check_family(header: Header) -> None:
    """Raise NotAMatch unless the UNet is Stable Diffusion 1's, CorruptCheckpoint where that cannot be told any more."""
    name = header.file_name
    told = header.metadata.get("modelspec.architecture", "").startswith("stable-diffusion-v1")
    unet = unet_of(header)
    if unet is None or unet.embeds_size or unet.embeds_class:
        raise NotAMatch(f"{name} has no {LABEL} UNet.")
    if unet.context is None:
        if told:
            raise CorruptCheckpoint(f"{name} is incomplete: the UNet's cross-attention is missing.")
        raise NotAMatch(f"{name} has no cross-attention in its middle block.")
    if unet.linear:
        raise NotAMatch(f"{name}: its UNet projects by linear layers, as later versions do.")
    if unet.context != CLIP_L_WIDTH and not told and _text_width(header) != unet.context:
        raise NotAMatch(f"{name}: its context width of {unet.context} is not {LABEL}'s.")


def _other_task(header: Header) -> str:
    """What a model does instead whose UNet is as Stable Diffusion 1's; "" where it makes pictures of texts."""
    for start, label in _AFTER_PICTURES.items():
        if any(name.startswith(start) for name in header.tensors):
            return f"this is {label}, which draws after a picture instead of a text, not supported yet."
    if says(header, "ic-?light"):  # whose tensors are what is to be added to those of a model
        return f"this is IC-Light, a change to models of {LABEL} and no model, not supported yet."
    return ""


def _text_width(header: Header) -> int | None:
    text = sort_parts(header).networks.get(TEXT)
    return text.config.get("hidden_size") if text else None


def _defaults(header: Header, parts: Parts, variant: str) -> Defaults:
    """512 x 512, or what the UNet's sample size in the `config` metadata says; of distilled models few steps."""
    sample = told_config(header).get(UNET, {}).get("sample_size", 64)
    side = sample * 8 if isinstance(sample, int) else 512
    plain = Defaults(width=side, height=side) if 64 <= side <= 2048 else Defaults()
    if variant == "pix2pix":
        plain = replace(plain, cfg_scale=7.5)
    return fast_defaults(header, variant, plain, parts.networks[UNET].config)
