"""Stripped headers of published models at their true dimensions, from diffusers' and transformers' classes on meta."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from modules.core.checkpoint import Header, Names, TensorInfo
from modules.families.layouts import clip, flux, qwen_vae, sd3, z_image
from modules.families.layouts.shapes import Table
from tests.families.original import original_of
from tests.families.record_headers import original_unet, original_vae, shapes_of

Shapes = dict[str, list[int]]
SDXL_UNET: dict[str, Any] = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
REFINER_UNET: dict[str, Any] = {
    **SDXL_UNET,
    "block_out_channels": [384, 768, 1536, 1536],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": 4,
    "attention_head_dim": [6, 12, 24, 24],
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}
SD2_UNET: dict[str, Any] = {
    "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True,
}  # fmt: skip
VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
CLIP: Mapping[str, dict[str, int]] = {
    "clip_l": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "projection_dim": 768},
    "clip_h": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "projection_dim": 1024},
    "clip_g": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "projection_dim": 1280},
}
T5_XXL = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}
QWEN3_4B = {
    "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 151936,
}  # fmt: skip
QWEN25_VL_7B = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064,
}  # fmt: skip


def header_of(
    shapes: Mapping[str, list[int]],
    name: str = "model",
    metadata: Mapping[str, str] | None = None,
    dtypes: Mapping[str, str] | None = None,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Header:
    """A header of tensors with these shapes, two bytes a value. dtypes: of those that are not F16."""
    tensors, end = {}, 0
    for key, shape in shapes.items():
        begin, count = end, 1
        for side in shape:
            count *= side
        end = begin + count * 2
        tensors[key] = TensorInfo((dtypes or {}).get(key, "F16"), tuple(shape), (begin, end))
    path = Path(name) / "model_index.json" if configs else Path(f"{name}.safetensors")
    return Header(path=path, tensors=tensors, metadata=metadata or {}, size=end, mtime_ns=1, configs=configs or {})


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


@functools.cache
def of_class(name: str, library: str = "diffusers", **config: Any) -> nn.Module:
    """A model of a diffusers or transformers class, on the meta device."""
    kind = getattr(diffusers if library == "diffusers" else transformers, name)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`FluxPosEmbed` is deprecated")  # diffusers' own Chroma uses it
        if library == "diffusers":
            model: nn.Module = kind(**{key: _thawed(value) for key, value in config.items()})
        else:
            settings = kind.config_class(**{key: _thawed(value) for key, value in config.items()})
            model = kind(settings)
    return model


def build(name: str, library: str = "diffusers", config: Mapping[str, Any] | None = None) -> nn.Module:
    """`of_class` with a configuration that holds lists."""
    return of_class(name, library, **{key: _frozen(value) for key, value in (config or {}).items()})


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return ("list", *(_frozen(each) for each in value))
    if isinstance(value, dict):
        return ("dict", *((key, _frozen(each)) for key, each in value.items()))
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, tuple) and value[:1] == ("list",):
        return [_thawed(each) for each in value[1:]]
    if isinstance(value, tuple) and value[:1] == ("dict",):
        return {key: _thawed(each) for key, each in value[1:]}
    return value


def original_shapes(model: nn.Module, table: Names) -> Shapes:
    return {name: list(tensor.shape) for name, tensor in original_of(table, model.state_dict()).items()}


def unet(config: Mapping[str, Any]) -> nn.Module:
    return build("UNet2DConditionModel", config=config)


def unet_original(config: Mapping[str, Any]) -> Shapes:
    """A UNet's tensors in the original layout, without prefix."""
    shapes = shapes_of(unet(config))
    levels = len(config.get("block_out_channels", [0] * 4))
    ups = config.get("up_block_types", ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    found = {}
    for name, shape in shapes.items():
        new = original_unet(name, levels)
        if up := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(\w+)", name):
            place = 2 if ups[int(up[1])] == "CrossAttnUpBlock2D" else 1
            new = f"output_blocks.{int(up[1]) * 3 + 2}.{place}.conv.{up[2]}"
        found[new] = shape
    return found


def vae(latents: int = 4, *, quant: bool = True) -> Shapes:
    config = {**VAE, "latent_channels": latents, "use_quant_conv": quant, "use_post_quant_conv": quant}
    return shapes_of(build("AutoencoderKL", config=config))


def vae_original(latents: int = 4, *, quant: bool = True) -> Shapes:
    found = {}
    for name, shape in vae(latents, quant=quant).items():
        square = [*shape, 1, 1] if re.search(r"attentions\.0\.to_\w+(\.0)?\.weight", name) else shape
        found[original_vae(name)] = square
    return found


def clip_model(kind: str) -> nn.Module:
    config = {**CLIP[kind], "num_attention_heads": CLIP[kind]["hidden_size"] // 64}
    return build("CLIPTextModelWithProjection", "transformers", config)


def clip_shapes(kind: str, *, projection: bool = True) -> Shapes:
    """Under transformers' names, with their `text_model.` level."""
    shapes = shapes_of(clip_model(kind))
    return {name: shape for name, shape in shapes.items() if projection or not name.startswith("text_projection")}


def open_clip(kind: str) -> Shapes:
    """Under OpenCLIP's names."""
    state = {name.removeprefix("text_model."): value for name, value in clip_model(kind).state_dict().items()}
    config = {"hidden_size": CLIP[kind]["hidden_size"], "num_hidden_layers": CLIP[kind]["num_hidden_layers"]}
    table = clip.open_table(config, projection=True)
    return {name: list(value.shape) for name, value in original_of(table, state).items()}


def t5_xxl() -> Shapes:
    shapes = shapes_of(build("T5EncoderModel", "transformers", T5_XXL))
    return {name: shape for name, shape in shapes.items() if name != "encoder.embed_tokens.weight"}


def flux_model(name: str = "FluxTransformer2DModel", **config: Any) -> nn.Module:
    return of_class(name, **config)


def transformer_original(model: nn.Module, table_of: Callable[[Any], Table]) -> Shapes:
    return original_shapes(model, table_of(dict(model.config)))  # type: ignore[arg-type]


def flux_original(**config: Any) -> Shapes:
    return transformer_original(flux_model(**config), functools.partial(flux.original, chroma=False))


def chroma_original(**config: Any) -> Shapes:
    model = flux_model("ChromaTransformer2DModel", **config)
    return transformer_original(model, functools.partial(flux.original, chroma=True))


def sd3_original(**config: Any) -> Shapes:
    return transformer_original(of_class("SD3Transformer2DModel", **config), sd3.original)


def z_image_original(**config: Any) -> Shapes:
    return transformer_original(of_class("ZImageTransformer2DModel", **config), z_image.original)


def qwen_vae_original() -> Shapes:
    return transformer_original(of_class("AutoencoderKLQwenImage"), qwen_vae.original)
