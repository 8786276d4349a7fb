"""Record the stripped headers that the detection tests read: `python -m tests.families.record_headers`.

Names and shapes come from diffusers' and transformers' own classes, built on the meta device at full size, so nothing
is downloaded or allocated. The original layout's names follow from these by `original_unet` and `original_vae`, which
go the opposite way of what they test.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

Shapes = dict[str, list[int]]
FOLDER = Path(__file__).parent / "headers"
WIDTHS = [320, 640, 1280, 1280]
UNET: dict[str, Any] = {"cross_attention_dim": 768, "attention_head_dim": 8, "block_out_channels": WIDTHS}
SDXL: dict[str, Any] = {
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
VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_INNER = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_OUTER = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def shapes_of(model: nn.Module) -> Shapes:
    """Name -> shape of all that a model would save."""
    return {name: list(value.shape) for name, value in model.state_dict().items()}


def original_unet(name: str, levels: int, layers: int = 2) -> str:
    """The original layout's name of a diffusers UNet tensor; levels: how many resolutions; layers: blocks in each."""
    stem, _, leaf = name.rpartition(".")
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{leaf}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        place = 1 if found[1] == "attentions" else int(found[2]) * 2
        return f"middle_block.{place}.{_inner(found[3])}"
    found = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
    assert found is not None, name
    side, i, kind, j, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(i + 1) * (layers + 1)}.0.op.{leaf}"
    if kind == "upsamplers":
        attends = _attends(i, levels)
        return f"output_blocks.{i * (layers + 1) + layers}.{2 if attends else 1}.conv.{leaf}"
    place = 0 if kind == "resnets" else 1
    number = 1 + i * (layers + 1) + j if side == "down" else i * (layers + 1) + j
    return f"{'input' if side == 'down' else 'output'}_blocks.{number}.{place}.{_inner(rest)}"


def _attends(up: int, levels: int) -> bool:
    """Whether up block `up` has attention: SD1's all but the first (lowest), SDXL's all but the last (highest)."""
    return up > 0 if levels == 4 else up < levels - 1


def _inner(rest: str) -> str:
    stem, _, leaf = rest.rpartition(".")
    return f"{_INNER.get(stem, stem)}.{leaf}"


def original_vae(name: str, levels: int = 4) -> str:
    """The original layout's name of a diffusers VAE tensor."""
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets", r"encoder.down.\1.block", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
    name = re.sub(r"\.to_([qkv])\.", r".\1.", name).replace("to_out.0", "proj_out")
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def original(unet: Shapes, *, text: Shapes | None = None, vae: Shapes | None = None, levels: int = 4) -> Shapes:
    """A single file in the original layout, from diffusers shapes."""
    found = {f"model.diffusion_model.{original_unet(name, levels)}": shape for name, shape in unet.items()}
    for name, shape in (vae or {}).items():
        square = [*shape, 1, 1] if re.search(r"attentions\.0\.to_\w+(\.0)?\.weight", name) else shape
        found[f"first_stage_model.{original_vae(name)}"] = square
    return {**found, **prefixed("cond_stage_model.transformer.text_model.", text or {})}


def headers() -> dict[str, Shapes]:
    """Every recorded header by name."""
    with torch.device("meta"):
        unet = shapes_of(UNet2DConditionModel(**UNET))
        inpaint = shapes_of(UNet2DConditionModel(**UNET, in_channels=9))
        pix2pix = shapes_of(UNet2DConditionModel(**UNET, in_channels=8))
        sd2 = shapes_of(
            UNet2DConditionModel(
                cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True
            )
        )
        sdxl = shapes_of(UNet2DConditionModel(**SDXL))
        vae = shapes_of(AutoencoderKL(**VAE))
        vae16 = shapes_of(AutoencoderKL(**VAE, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False))
        text = shapes_of(CLIPTextModel(CLIPTextConfig(**CLIP_L)))
        text = {name.removeprefix("text_model."): shape for name, shape in text.items()}
        sd3 = shapes_of(SD3Transformer2DModel(num_layers=2))
        flux = shapes_of(FluxTransformer2DModel(num_layers=1, num_single_layers=1))
        control = shapes_of(ControlNetModel(cross_attention_dim=768))
    whole = original(unet, text=text, vae=vae)
    ema = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): shape
        for name, shape in whole.items()
        if name.startswith("model.diffusion_model.")
    }
    training = {"betas": [1000], "alphas_cumprod": [1000], "model_ema.decay": [], "model_ema.num_updates": []}
    position = {"cond_stage_model.transformer.text_model.embeddings.position_ids": [1, 77]}
    return {
        "sd1-original": {**whole, **training, **position},
        "sd1-ema-and-weights": {**whole, **ema, **training},
        "sd1-ema-only": {**{k: v for k, v in whole.items() if not k.startswith("model.diffusion")}, **ema},
        "sd1-no-vae": {k: v for k, v in whole.items() if not k.startswith("first_stage_model.")},
        "sd1-no-text-encoder": {k: v for k, v in whole.items() if not k.startswith("cond_stage_model.")},
        "sd1-diffusers": {
            **prefixed("unet.", unet),
            **prefixed("vae.", vae),
            **prefixed("text_encoder.text_model.", text),
        },
        "sd1-unet-diffusers": unet,
        "sd1-inpaint": original(inpaint, text=text, vae=vae),
        "sd1-pix2pix": original(pix2pix, text=text, vae=vae),
        "sd2-original": original(sd2),
        "sd2-unet-diffusers": sd2,
        "sdxl-original": original(sdxl, levels=3),
        "sdxl-unet-diffusers": sdxl,
        "sd3-diffusers": sd3,
        "flux-diffusers": flux,
        "vae-diffusers": vae,
        "vae-original": {original_vae(name): shape for name, shape in vae.items()},
        "vae-16-channels": vae16,
        "controlnet-diffusers": control,
        "clip-l": prefixed("text_model.", text),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, shapes in headers().items():
        packed = gzip.compress(json.dumps(shapes, separators=(",", ":")).encode(), mtime=0)
        (FOLDER / f"{name}.json.gz").write_bytes(packed)
        print(f"{name}: {len(shapes)} tensors, {len(packed):,} bytes")


if __name__ == "__main__":
    main()
