"""Headers of published files, whole and in part, and what each is."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping

from modules.core.checkpoint import ModelInfo
from modules.core.family import Family, identify
from modules.core.plugin import Registry
from tests.families.published import (
    REFINER_UNET,
    SD2_UNET,
    SDXL_UNET,
    Shapes,
    chroma_original,
    clip_shapes,
    flux_original,
    header_of,
    of_class,
    open_clip,
    sd3_original,
    t5_xxl,
    under,
    unet,
    unet_original,
    vae_original,
    z_image_original,
)
from tests.families.record_headers import UNET as SD1_UNET
from tests.families.record_headers import shapes_of

NET, FIRST = "model.diffusion_model.", "first_stage_model."


@functools.cache
def sdxl() -> Shapes:
    """SDXL base 1.0 as published."""
    return {
        **under(NET, unet_original(SDXL_UNET)),
        **under("conditioner.embedders.0.transformer.", clip_shapes("clip_l", projection=False)),
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": [1, 77],
        **under("conditioner.embedders.1.model.", open_clip("clip_g")),
        "conditioner.embedders.1.model.logit_scale": [1],
        **under(FIRST, vae_original()),
    }


@functools.cache
def refiner() -> Shapes:
    return {
        **under(NET, unet_original(REFINER_UNET)),
        **under("conditioner.embedders.0.model.", open_clip("clip_g")),
        **under(FIRST, vae_original()),
    }


@functools.cache
def sd2() -> Shapes:
    return {
        **under(NET, unet_original(SD2_UNET)),
        **under("cond_stage_model.model.", open_clip("clip_h")),
        **under(FIRST, vae_original()),
        "betas": [1000],
    }


@functools.cache
def sd3_medium() -> Shapes:
    """The all-in-one file of SD3 medium, T5 included."""
    return {
        **under(NET, sd3_original(num_layers=24, num_attention_heads=24, caption_projection_dim=1536,
                                  pos_embed_max_size=192)),
        **under("text_encoders.clip_l.transformer.", clip_shapes("clip_l")),
        **under("text_encoders.clip_g.transformer.", clip_shapes("clip_g")),
        **under("text_encoders.t5xxl.transformer.", t5_xxl()),
        **under(FIRST, vae_original(16, quant=False)),
        "text_encoders.clip_l.logit_scale": [],
    }  # fmt: skip


def flux_dev() -> Shapes:
    return flux_original(num_layers=19, num_single_layers=38, guidance_embeds=True)


def flux_all_in_one() -> Shapes:
    """As ComfyUI's all-in-one files are."""
    return {
        **under(NET, flux_dev()),
        **under("text_encoders.clip_l.transformer.", clip_shapes("clip_l")),
        **under("text_encoders.t5xxl.transformer.", t5_xxl()),
        **under("vae.", vae_original(16, quant=False)),
    }


def newer_norms(shapes: Shapes) -> Shapes:
    """As ComfyUI saves models since its norms are torch's own."""
    return {re.sub(r"(\.norm\.(?:query|key)_norm)\.scale$", r"\1.weight", name): each for name, each in shapes.items()}


# Name -> tensors, family, variant, prediction, components
TRANSFORMER = ("transformer",)
Case = tuple[Callable[[], Shapes], str, str, str, tuple[str, ...]]
CASES: Mapping[str, Case] = {
    "sd_xl_base_1.0": (sdxl, "sdxl", "", "epsilon", ("unet", "text_encoder", "text_encoder_2", "vae")),
    "sd_xl_refiner_1.0": (refiner, "sdxl", "refiner", "epsilon", ("unet", "text_encoder_2", "vae")),
    "some_inpainting_xl": (
        lambda: {**sdxl(), NET + "input_blocks.0.0.weight": [320, 9, 3, 3]},
        "sdxl", "inpaint", "epsilon", ("unet", "text_encoder", "text_encoder_2", "vae"),
    ),
    "edit_xl": (lambda: unet_original({**SDXL_UNET, "in_channels": 8}), "sdxl", "pix2pix", "epsilon", ("unet",)),
    "LCM_Dreamshaper_v7_4k": (
        lambda: {**shapes_of(unet(SD1_UNET)), "time_embedding.cond_proj.weight": [320, 256]},
        "sd1", "lcm", "epsilon", ("unet",),
    ),
    "noob_vpred": (
        lambda: {**sdxl(), "v_pred": [], "ztsnr": []},
        "sdxl", "", "v", ("unet", "text_encoder", "text_encoder_2", "vae"),
    ),
    "playground-v2.5-1024px-aesthetic.fp16": (
        lambda: {**sdxl(), "edm_mean": [4], "edm_std": [4]},
        "sdxl", "", "edm", ("unet", "text_encoder", "text_encoder_2", "vae"),
    ),
    "cosxl": (
        lambda: {**sdxl(), "edm_vpred.sigma_max": [], "edm_vpred.sigma_min": []},
        "sdxl", "", "v", ("unet", "text_encoder", "text_encoder_2", "vae"),
    ),
    "cosxl_edit": (lambda: unet_original({**SDXL_UNET, "in_channels": 8}), "sdxl", "pix2pix", "v", ("unet",)),
    "sdxl_lightning_4step": (lambda: shapes_of(unet(SDXL_UNET)), "sdxl", "lightning", "epsilon", ("unet",)),
    "sd_xl_turbo_1.0": (lambda: unet_original(SDXL_UNET), "sdxl", "turbo", "epsilon", ("unet",)),
    "v2-1_768-ema-pruned": (sd2, "sd2", "", "v", ("unet", "text_encoder", "vae")),
    "512-base-ema": (sd2, "sd2", "", "epsilon", ("unet", "text_encoder", "vae")),
    "512-inpainting-ema": (
        lambda: {**sd2(), NET + "input_blocks.0.0.weight": [320, 9, 3, 3]},
        "sd2", "inpaint", "epsilon", ("unet", "text_encoder", "vae"),
    ),
    "sd3_medium": (
        sd3_medium, "sd3", "", "flow", ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "vae")
    ),
    "sd3.5_large_turbo": (
        lambda: sd3_original(num_layers=38, num_attention_heads=38, caption_projection_dim=2432,
                             pos_embed_max_size=192, qk_norm="rms_norm"),
        "sd3", "turbo", "flow", TRANSFORMER,
    ),
    "flux1-dev": (flux_dev, "flux", "dev", "flow", TRANSFORMER),
    "flux1-dev-all-in-one": (
        flux_all_in_one, "flux", "dev", "flow", ("transformer", "text_encoder", "text_encoder_2", "vae")
    ),
    "flux1-dev-merged": (lambda: under(NET, newer_norms(flux_dev())), "flux", "dev", "flow", TRANSFORMER),
    "flux1-schnell": (
        lambda: flux_original(num_layers=19, num_single_layers=38), "flux", "schnell", "flow", TRANSFORMER
    ),
    "flux1-lite-8B": (
        lambda: flux_original(num_layers=8, num_single_layers=38, guidance_embeds=True),
        "flux", "dev", "flow", TRANSFORMER,
    ),
    "flux1-kontext-dev": (flux_dev, "flux", "kontext", "flow", TRANSFORMER),
    "flux1-fill-dev": (
        lambda: flux_original(num_layers=2, num_single_layers=2, guidance_embeds=True, in_channels=384,
                              out_channels=64),
        "flux", "fill", "flow", TRANSFORMER,
    ),
    "Chroma1-HD-merged": (
        lambda: newer_norms(chroma_original(num_layers=19, num_single_layers=38)), "chroma", "", "flow", TRANSFORMER
    ),
    "Chroma1-HD": (
        lambda: chroma_original(num_layers=19, num_single_layers=38), "chroma", "", "flow", TRANSFORMER
    ),
    "z_image_turbo": (lambda: z_image_original(n_layers=30), "z_image", "turbo", "flow", TRANSFORMER),
    "z_image_base": (lambda: under(NET, z_image_original(n_layers=30)), "z_image", "", "flow", TRANSFORMER),
    "qwen_image_2512": (
        lambda: shapes_of(of_class("QwenImageTransformer2DModel", num_layers=60)),
        "qwen_image", "", "flow", TRANSFORMER,
    ),
}  # fmt: skip


def named(
    shapes: Shapes, families: Registry[Family], name: str = "model", metadata: Mapping[str, str] | None = None
) -> ModelInfo:
    return identify(header_of(shapes, name, metadata), families)
