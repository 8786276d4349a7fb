"""Qwen-Image 1 (Alibaba 2025): double blocks throughout, under the texts of Qwen2.5-VL.

`config` gives the keyword arguments of diffusers' `QwenImageTransformer2DModel`. Its single files use diffusers' own
names, so `original` maps each to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.families.layouts.shapes import Config, Shapes, Table, heads, whole, wholes

_AXES = [16, 56, 56]


def config(shapes: Shapes, told: Mapping[str, Any]) -> Config:
    """Keyword arguments of the class."""
    width = shapes("img_in.bias")[0]
    size = shapes("transformer_blocks.0.attn.norm_q.weight")[0]
    patch = whole(told, "patch_size", 2)
    return {
        "patch_size": patch,
        "in_channels": shapes("img_in.weight")[1],
        "out_channels": shapes("proj_out.bias")[0] // patch**2,
        "num_layers": shapes.count(r"transformer_blocks\.(\d+)\."),
        "attention_head_dim": size,
        "num_attention_heads": heads(width, size, "Transformer"),
        "joint_attention_dim": shapes("txt_norm.weight")[0],
        "guidance_embeds": shapes.has("time_text_embed.guidance_embedder.linear_1.weight"),
        "axes_dims_rope": wholes(told, "axes_dims_rope", _AXES if size == 128 else [size // 2, size // 4, size // 4]),
    }


def original(config: Config) -> Table:
    """Every parameter's name under itself."""
    table = Table({"txt_norm.weight": "txt_norm.weight"})
    embedders = ["timestep_embedder"] + ["guidance_embedder"] * config["guidance_embeds"]
    pairs = [f"time_text_embed.{name}.linear_{i}" for name in embedders for i in (1, 2)]
    pairs += ["img_in", "txt_in", "norm_out.linear", "proj_out"]
    for i in range(config["num_layers"]):
        block = f"transformer_blocks.{i}."
        pairs += [f"{block}{side}_mod.1" for side in ("img", "txt")]
        pairs += [f"{block}{side}_mlp.net.{layer}" for side in ("img", "txt") for layer in ("0.proj", "2")]
        pairs += [f"{block}attn.to_{letter}" for letter in "qkv"] + [f"{block}attn.add_{c}_proj" for c in "qkv"]
        pairs += [f"{block}attn.to_out.0", f"{block}attn.to_add_out"]
        for norm in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            table.weights(f"{block}attn.{norm}", f"{block}attn.{norm}")
    for name in pairs:
        table.pair(name, name)
    return table
