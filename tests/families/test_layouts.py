"""Name tables against diffusers: the parameters of its classes, and its own conversion of the original layouts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils
from torch import Tensor, nn

from modules.families.layouts import clip, flux, names, qwen_image, qwen_vae, sd3, z_image
from modules.families.layouts.shapes import Table
from tests.families.original import original_of, through
from tests.families.published import (
    CLIP,
    REFINER_UNET,
    SD2_UNET,
    SDXL_UNET,
    VAE,
    build,
    clip_model,
    of_class,
    unet,
    unet_original,
    vae_original,
)
from tests.families.record_headers import UNET as SD1_UNET

Convert = Callable[[dict[str, Tensor]], dict[str, Tensor]]
WIDE = {"num_attention_heads": 24, "caption_projection_dim": 1536}
CASES: dict[str, tuple[str, dict[str, Any], Callable[[Any], Table], Convert]] = {
    "flux-dev": (
        "FluxTransformer2DModel", {"num_layers": 2, "num_single_layers": 2, "guidance_embeds": True},
        partial(flux.original, chroma=False), single_file_utils.convert_flux_transformer_checkpoint_to_diffusers,
    ),
    "flux-schnell": (
        "FluxTransformer2DModel", {"num_layers": 1, "num_single_layers": 3},
        partial(flux.original, chroma=False), single_file_utils.convert_flux_transformer_checkpoint_to_diffusers,
    ),
    "chroma": (
        "ChromaTransformer2DModel", {"num_layers": 2, "num_single_layers": 2},
        partial(flux.original, chroma=True), single_file_utils.convert_chroma_transformer_checkpoint_to_diffusers,
    ),
    "sd3-medium": (
        "SD3Transformer2DModel", {"num_layers": 3, **WIDE},
        sd3.original, single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers,
    ),
    "sd3.5-medium": (
        "SD3Transformer2DModel",
        {"num_layers": 4, "qk_norm": "rms_norm", "dual_attention_layers": (0, 1), "pos_embed_max_size": 384, **WIDE},
        sd3.original, single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers,
    ),
    "z-image": (
        "ZImageTransformer2DModel", {"n_layers": 2},
        z_image.original, single_file_utils.convert_z_image_transformer_checkpoint_to_diffusers,
    ),
    "qwen-image": ("QwenImageTransformer2DModel", {"num_layers": 2}, qwen_image.original, lambda given: given),
    "qwen-vae": (
        "AutoencoderKLQwenImage", {}, qwen_vae.original, single_file_utils.convert_wan_vae_to_diffusers,
    ),
}  # fmt: skip


def thin(model: nn.Module) -> dict[str, Tensor]:
    """Random values for a model on meta: all its rows, and of every other dimension one, as tables cut rows only."""
    torch.manual_seed(1)
    return {
        name: torch.randn(value.shape if value.dim() < 2 else (value.shape[0], *[1] * (value.dim() - 1)))
        for name, value in model.state_dict().items()
    }


@pytest.mark.parametrize("name", CASES)
def test_a_table_names_every_parameter_and_diffusers_converts_the_same(name: str) -> None:
    kind, config, table_of, convert = CASES[name]
    model = of_class(kind, **config)
    table = table_of(dict(model.config))  # type: ignore[arg-type]
    state = thin(model)
    assert set(table) == set(state)
    file = original_of(table, state)
    converted = convert(dict(file))
    assert set(converted) == set(state)
    assert [key for key in state if not torch.equal(converted[key], state[key])] == []
    assert [key for key, value in through(table, file).items() if not torch.equal(value, state[key])] == []


@pytest.mark.parametrize("kind", ["clip_h", "clip_g"])
def test_open_clip_is_read_as_diffusers_reads_it(kind: str) -> None:
    model = clip_model(kind)
    torch.manual_seed(2)
    width = CLIP[kind]["hidden_size"]
    plain = {
        name.removeprefix("text_model."): torch.randn(
            (width, width) if name == "text_projection.weight" else (*value.shape[:1], *[1] * (value.dim() - 1))
        )
        for name, value in model.state_dict().items()
    }
    table = clip.open_table(CLIP[kind], projection=True)
    assert set(table) == set(plain)
    file = original_of(table, plain)
    prefixed = {f"m.{name}": value for name, value in file.items()}
    converted = single_file_utils.convert_open_clip_checkpoint(model, prefixed, prefix="m.")
    without = {name.removeprefix("text_model."): value for name, value in converted.items()}
    assert set(without) == set(plain)
    assert [key for key in plain if not torch.equal(without[key], plain[key])] == []
    assert [key for key, value in through(table, file).items() if not torch.equal(value, plain[key])] == []


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "refiner"])
def test_unets_are_read_as_diffusers_reads_them(name: str) -> None:
    config = {"sd1": SD1_UNET, "sd2": SD2_UNET, "sdxl": SDXL_UNET, "refiner": REFINER_UNET}[name]
    model = unet(config)
    torch.manual_seed(3)
    file = {key: torch.randn(shape[:1]) for key, shape in unet_original(config).items()}
    settings = {"class_embed_type": None, **dict(model.config)}  # type: ignore[arg-type]
    prefixed = {f"model.diffusion_model.{key}": value for key, value in file.items()}
    converted = single_file_utils.convert_ldm_unet_checkpoint(prefixed, config=settings)
    table = names.unet_names(file)
    assert set(table) == set(converted) == set(model.state_dict())
    assert [key for key in table if not torch.equal(converted[key], file[table[key]])] == []


def test_vaes_are_read_as_diffusers_reads_them() -> None:
    model = build("AutoencoderKL", config=VAE)
    torch.manual_seed(4)
    file = {key: torch.randn((*shape[:1], *[1] * (len(shape) - 1))) for key, shape in vae_original().items()}
    prefixed = {f"first_stage_model.{key}": value for key, value in file.items()}
    settings = dict(model.config)  # type: ignore[arg-type]
    converted = single_file_utils.convert_ldm_vae_checkpoint(prefixed, settings)
    table = names.vae_names(file)
    assert set(table) == set(converted) == set(model.state_dict())
    assert [key for key in table if not torch.equal(converted[key].flatten(), file[table[key]].flatten())] == []
