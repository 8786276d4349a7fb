"""Stable Diffusion 1 (Rombach et al. 2022): a UNet under CLIP ViT-L text, 4-channel latents.

Recognised by structure: convolutional projections around cross-attention, no class or size embedding, and a context
width that is CLIP-L's 768 or that of the CLIP text encoder in the same file (smaller models of this architecture;
where they come without one, their `modelspec.architecture` says what they are). A text encoder and a VAE may be
missing: they are then taken from files of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import CorruptCheckpoint, NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.defaults import told_defaults
from modules.families.layouts.dims import (
    Shapes,
    expected_text,
    expected_unet,
    expected_vae,
    text_config,
    told_config,
    unet_config,
    vae_config,
)
from modules.families.layouts.parts import TEXT, UNET, VAE, Parts, main_dtype, sort_parts

LABEL = "Stable Diffusion 1"
CLIP_L_WIDTH = 768
_CONTEXT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_PROJECTION = "mid_block.attentions.0.proj_in.weight"
_MARKS = ("add_embedding.linear_1.weight", "class_embedding.weight", "label_emb.weight")


@family("sd1", label=LABEL, rank=10)
def sd1(header: Header) -> ModelInfo:
    """Describe a Stable Diffusion 1 checkpoint. Raises NotAMatch or CorruptCheckpoint."""
    parts = sort_parts(header)
    shapes = Shapes(header, parts.unet)
    _check_family(header, parts, shapes)
    if variant := _variant(shapes("conv_in.weight")[1]):
        return foreign(header, "sd1", LABEL, variant)
    if any("motion_modules" in name for name in parts.unet):
        return foreign(header, "sd1", LABEL, "this is Stable Diffusion 1 with AnimateDiff motion, not supported yet.")
    config = _config(header, parts)
    _check_complete(header, parts, config)
    return ModelInfo(
        name=header.path.stem,
        path=str(header.path),
        family="sd1",
        label=LABEL,
        supported=True,
        prediction=_prediction(header),
        dtype=main_dtype(header),
        layout=parts.layout,
        components=parts.present,
        size=header.size,
        mtime_ns=header.mtime_ns,
        defaults=_defaults(header),
        config=config,
        metadata=header.metadata,
    )


def _check_family(header: Header, parts: Parts, shapes: Shapes) -> None:
    """Raise NotAMatch unless the UNet is Stable Diffusion 1's."""
    name = header.path.name
    told = header.metadata.get("modelspec.architecture", "").startswith("stable-diffusion-v1")
    if not shapes.has("conv_in.weight") or any(mark in parts.unet for mark in _MARKS):
        raise NotAMatch(f"{name} has no Stable Diffusion 1 UNet.")
    if not shapes.has(_CONTEXT):
        if told:
            raise CorruptCheckpoint(f"{name} is incomplete: {_CONTEXT} is missing.")
        raise NotAMatch(f"{name} has no cross-attention in its middle block.")
    width = shapes(_CONTEXT)[1]
    text = header.shape(parts.text_encoder.get("embeddings.token_embedding.weight", ""))
    linear = shapes.has(_PROJECTION) and len(shapes(_PROJECTION)) == 2
    fits = text[1] == width if text else told
    if linear or (width != CLIP_L_WIDTH and not fits):
        raise NotAMatch(f"{name}: its context width of {width} is not Stable Diffusion 1's.")


def _variant(channels: int) -> str:
    """Why a UNet with this many input channels is not supported; empty where it is."""
    if channels == 4:
        return ""
    known = {9: "an inpainting model (9 input channels)", 8: "an InstructPix2Pix model (8 input channels)"}
    return (
        f"this is Stable Diffusion 1, {known.get(channels, f'a variant with {channels} channels')}, not supported yet."
    )


def _config(header: Header, parts: Parts) -> dict[str, dict[str, Any]]:
    told = told_config(header)
    config = {UNET: unet_config(Shapes(header, parts.unet), told.get(UNET, {}))}
    if parts.text_encoder:
        config[TEXT] = text_config(Shapes(header, parts.text_encoder), told.get(TEXT, {}))
    if parts.vae:
        config[VAE] = vae_config(Shapes(header, parts.vae), told.get(VAE, {}))
    return config


def _check_complete(header: Header, parts: Parts, config: Mapping[str, Mapping[str, Any]]) -> None:
    expected = {UNET: expected_unet, TEXT: expected_text, VAE: expected_vae}
    for part in parts.present:
        names = parts.of(part)
        missing = [name for name in expected[part](dict(config[part])) if name not in names]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise CorruptCheckpoint(
                f"{header.path.name} is incomplete: {', '.join(missing[:3])}{more} of the {part.replace('_', ' ')} "
                f"{'is' if len(missing) == 1 else 'are'} missing.",
                hint="Download it again.",
            )


def _prediction(header: Header) -> str:
    told = header.metadata.get("modelspec.prediction_type", "").lower()
    if told.startswith("v") or "v_pred" in header.tensors:
        return "v"
    return "epsilon"


def _defaults(header: Header) -> Defaults:
    """The native size: `modelspec.resolution`, else the UNet's sample size in the `config` metadata, else 512 x 512.

    Over it whatever the metadata `inferenz.defaults` says.
    """
    if found := re.fullmatch(r"\s*(\d+)\s*x\s*(\d+)\s*", header.metadata.get("modelspec.resolution", "")):
        width, height = int(found[1]), int(found[2])
    else:
        sample = told_config(header).get(UNET, {}).get("sample_size", 64)
        width = height = sample * 8 if isinstance(sample, int) else 512
    fits = all(64 <= side <= 2048 and side % 8 == 0 for side in (width, height))
    return told_defaults(header, Defaults(width=width, height=height) if fits else Defaults())
