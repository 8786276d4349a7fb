"""Pictures by diffusers' own pipelines, from the tiny networks of `tests.backbones.unets`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor

from tests.backbones.unets import Kind, scheduler, tokenizer

_PIPELINES: Mapping[tuple[bool, str], Any] = {
    (False, ""): StableDiffusionPipeline,
    (False, "inpaint"): StableDiffusionInpaintPipeline,
    (False, "pix2pix"): StableDiffusionInstructPix2PixPipeline,
    (True, ""): StableDiffusionXLPipeline,
    (True, "inpaint"): StableDiffusionXLInpaintPipeline,
    (True, "pix2pix"): StableDiffusionXLInstructPix2PixPipeline,
    (True, "refiner"): StableDiffusionXLImg2ImgPipeline,
}


def pipeline(kind: Kind, networks: Mapping[str, Any]) -> Any:
    """diffusers' pipeline for this kind."""
    large = kind.family == "sdxl"
    parts: dict[str, Any] = {"scheduler": scheduler(kind), **networks}
    for component, encoder in kind.texts:
        parts[component.replace("text_encoder", "tokenizer")] = tokenizer(encoder)
    if large:
        parts = {"text_encoder": None, "tokenizer": None, **parts}
        if kind.variant == "refiner":
            parts["requires_aesthetics_score"] = True
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    made = _PIPELINES[large, kind.variant](**parts)
    made.set_progress_bar_config(disable=True)
    return made


def picture(
    kind: Kind, networks: Mapping[str, Any], noise: Tensor, *, prompt: str, negative: str, steps: int, cfg_scale: float
) -> Tensor:
    """(1, 3, H, W) in 0..1, made of nothing but `noise` (1, 4, h, w), standard normal."""
    made, size = pipeline(kind, networks), (noise.shape[-2] * 8, noise.shape[-1] * 8)
    told: dict[str, Any] = {
        "prompt": prompt, "negative_prompt": negative, "num_inference_steps": steps, "guidance_scale": cfg_scale,
        "output_type": "pt",
    }  # fmt: skip
    if kind.variant != "refiner":
        told["latents"] = noise * _unit(made.scheduler) if kind.edm else noise
    if kind.variant in ("", "inpaint") or (kind.variant == "pix2pix" and kind.family == "sdxl"):
        told |= {"height": size[0], "width": size[1]}
    if kind.variant == "inpaint":
        told |= {"image": torch.zeros(1, 3, *size), "mask_image": torch.ones(1, 1, *size), "strength": 1.0}
    elif kind.variant == "pix2pix":
        told |= {"image": torch.zeros_like(noise), "image_guidance_scale": 1.5}
    elif kind.variant == "refiner":  # which takes over a picture that is all but noise
        made.scheduler.set_timesteps(steps)
        told |= {"image": noise * made.scheduler.init_noise_sigma, "denoising_start": 1e-4}
    answer: Tensor = made(**told).images
    return answer


def _unit(scheduler: Any) -> float:
    """Of the first noise: diffusers has sqrt(sigma^2 + 1) also for EDM's levels, whose own is sigma."""
    return float(scheduler.config.sigma_max / scheduler.init_noise_sigma)
