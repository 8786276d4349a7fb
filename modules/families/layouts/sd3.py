"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): joint blocks, in which picture and text attend to each other.

`config` gives the keyword arguments of diffusers' `SD3Transformer2DModel`, `original` the published layout's names.
3.5 normalises queries and keys; 3.5 medium has a second self-attention in its first blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

from modules.core.errors import CorruptCheckpoint
from modules.families.layouts.shapes import Config, Shapes, Table, heads, whole

_HEAD = 64  # channels per attention head, of every published model


def config(shapes: Shapes, told: Mapping[str, Any]) -> Config:
    """Keyword arguments of the class. shapes: under either layout's names."""
    original = shapes.has("x_embedder.proj.weight")
    patch = "x_embedder.proj.weight" if original else "pos_embed.proj.weight"
    width, channels, side = shapes(patch)[:3]
    blocks, block = ("joint_blocks", "x_block") if original else ("transformer_blocks", "")
    inside = f".{block}" if block else ""
    norm = f"{blocks}.0{inside}.attn.{'ln_q' if original else 'norm_q'}.weight"
    size = shapes(norm)[0] if shapes.has(norm) else whole(told, "attention_head_dim", _HEAD)
    layers = shapes.count(rf"{blocks}\.(\d+)\.")
    second = f"attn2.{'qkv' if original else 'to_q'}.weight"
    places = shapes("pos_embed" if original else "pos_embed.pos_embed")[1]
    if isqrt(places) ** 2 != places:
        raise CorruptCheckpoint(f"The position embedding has {places} places, which are no square.")
    out = shapes("final_layer.linear.bias" if original else "proj_out.bias")[0] // side**2
    pooled = "y_embedder.mlp.0.weight" if original else "time_text_embed.text_embedder.linear_1.weight"
    return {
        "sample_size": whole(told, "sample_size", 128),
        "patch_size": side,
        "in_channels": channels,
        "out_channels": out,
        "num_layers": layers,
        "attention_head_dim": size,
        "num_attention_heads": heads(width, size, "Transformer"),
        "joint_attention_dim": shapes("context_embedder.weight")[1],
        "caption_projection_dim": shapes("context_embedder.bias")[0],
        "pooled_projection_dim": shapes(pooled)[1],
        "pos_embed_max_size": isqrt(places),
        "dual_attention_layers": [i for i in range(layers) if shapes.has(f"{blocks}.{i}{inside}.{second}")],
        "qk_norm": "rms_norm" if shapes.has(norm) else None,
    }


def original(config: Config) -> Table:
    """diffusers name -> name in the original layout, of every parameter of a network with this configuration."""
    width, last = config["num_attention_heads"] * config["attention_head_dim"], config["num_layers"] - 1
    table = Table({"pos_embed.pos_embed": "pos_embed"})
    table.pair("pos_embed.proj", "x_embedder.proj")
    table.pair("context_embedder", "context_embedder")
    for new, old in (("timestep_embedder", "t_embedder"), ("text_embedder", "y_embedder")):
        table.pair(f"time_text_embed.{new}.linear_1", f"{old}.mlp.0")
        table.pair(f"time_text_embed.{new}.linear_2", f"{old}.mlp.2")
    table.swapped("norm_out.linear", "final_layer.adaLN_modulation.1")
    table.pair("proj_out", "final_layer.linear")
    for i in range(config["num_layers"]):
        new, old = f"transformer_blocks.{i}", f"joint_blocks.{i}"
        _picture(table, new, f"{old}.x_block", width, dual=i in config["dual_attention_layers"])
        _text(table, new, f"{old}.context_block", width, last=i == last)
        if config["qk_norm"]:
            _norms(table, new, old, dual=i in config["dual_attention_layers"])
    return table


def _picture(table: Table, new: str, old: str, width: int, *, dual: bool) -> None:
    table.pair(f"{new}.norm1.linear", f"{old}.adaLN_modulation.1")
    for name in ("attn", "attn2") if dual else ("attn",):
        table.split(f"{old}.{name}.qkv", [(f"{new}.{name}.to_{letter}", width) for letter in "qkv"])
        table.pair(f"{new}.{name}.to_out.0", f"{old}.{name}.proj")
    table.pair(f"{new}.ff.net.0.proj", f"{old}.mlp.fc1")
    table.pair(f"{new}.ff.net.2", f"{old}.mlp.fc2")


def _text(table: Table, new: str, old: str, width: int, *, last: bool) -> None:
    table.split(f"{old}.attn.qkv", [(f"{new}.attn.add_{letter}_proj", width) for letter in "qkv"])
    if last:  # the text is not used any further
        table.swapped(f"{new}.norm1_context.linear", f"{old}.adaLN_modulation.1")
        return
    table.pair(f"{new}.norm1_context.linear", f"{old}.adaLN_modulation.1")
    table.pair(f"{new}.attn.to_add_out", f"{old}.attn.proj")
    table.pair(f"{new}.ff_context.net.0.proj", f"{old}.mlp.fc1")
    table.pair(f"{new}.ff_context.net.2", f"{old}.mlp.fc2")


def _norms(table: Table, new: str, old: str, *, dual: bool) -> None:
    for letter in "qk":
        table.weights(f"{new}.attn.norm_{letter}", f"{old}.x_block.attn.ln_{letter}")
        table.weights(f"{new}.attn.norm_added_{letter}", f"{old}.context_block.attn.ln_{letter}")
        if dual:
            table.weights(f"{new}.attn2.norm_{letter}", f"{old}.x_block.attn2.ln_{letter}")
