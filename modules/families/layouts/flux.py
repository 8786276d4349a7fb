"""Flux.1 (Black Forest Labs 2024) and Chroma (lodestones 2025): double blocks for picture and text, then single ones.

`config` gives the keyword arguments of diffusers' `FluxTransformer2DModel` or `ChromaTransformer2DModel`; `original`
the names in the layout that both were published in. Chroma is Flux without modulation layers and pooled text: one
small network, the approximator, gives all shifts and scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.families.layouts.shapes import Config, Shapes, Table, heads, whole, wholes

_AXES = [16, 56, 56]  # of 128 channels per head, the rotary embedding's: a fixed one, rows, columns


def config(shapes: Shapes, told: Mapping[str, Any], *, chroma: bool) -> Config:
    """Keyword arguments of the class. shapes: under either layout's names."""
    original = shapes.has("img_in.weight")
    picture, text = ("img_in", "txt_in") if original else ("x_embedder", "context_embedder")
    width = shapes(f"{text}.bias")[0]
    norm = "double_blocks.0.img_attn.norm.query_norm.scale" if original else "transformer_blocks.0.attn.norm_q.weight"
    size = shapes(norm)[0]
    found: Config = {
        "patch_size": 1,
        "in_channels": shapes(f"{picture}.weight")[1],
        "out_channels": shapes("final_layer.linear.bias" if original else "proj_out.bias")[0],
        "num_layers": shapes.count(r"double_blocks\.(\d+)\." if original else r"transformer_blocks\.(\d+)\."),
        "num_single_layers": shapes.count(
            r"single_blocks\.(\d+)\." if original else r"single_transformer_blocks\.(\d+)\."
        ),
        "attention_head_dim": size,
        "num_attention_heads": heads(width, size, "Transformer"),
        "joint_attention_dim": shapes(f"{text}.weight")[1],
        "axes_dims_rope": wholes(told, "axes_dims_rope", _AXES if size == 128 else [size // 2, size // 4, size // 4]),
    }
    if chroma:
        near = "distilled_guidance_layer"
        found["approximator_num_channels"] = whole(
            told, "approximator_num_channels", shapes(f"{near}.in_proj.weight")[1]
        )
        found["approximator_hidden_dim"] = shapes(f"{near}.in_proj.bias")[0]
        found["approximator_layers"] = shapes.count(rf"{near}\.layers\.(\d+)\.")
        return found
    pooled = "vector_in.in_layer.weight" if original else "time_text_embed.text_embedder.linear_1.weight"
    guided = "guidance_in.in_layer.weight" if original else "time_text_embed.guidance_embedder.linear_1.weight"
    return {**found, "pooled_projection_dim": shapes(pooled)[1], "guidance_embeds": shapes.has(guided)}


def original(config: Config, *, chroma: bool) -> Table:
    """diffusers name -> name in the original layout, of every parameter of a network with this configuration."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    table = Table()
    _chroma_ends(table, config) if chroma else _flux_ends(table, config)
    table.pair("context_embedder", "txt_in")
    table.pair("x_embedder", "img_in")
    table.pair("proj_out", "final_layer.linear")
    for i in range(config["num_layers"]):
        _double(table, f"transformer_blocks.{i}", f"double_blocks.{i}", width, modulated=not chroma)
    for i in range(config["num_single_layers"]):
        new, old = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
        if not chroma:
            table.pair(f"{new}.norm.linear", f"{old}.modulation.lin")
        parts = [(f"{new}.attn.to_{letter}", width) for letter in "qkv"]
        table.split(f"{old}.linear1", [*parts, (f"{new}.proj_mlp", 4 * width)])
        table[f"{new}.attn.norm_q.weight"] = f"{old}.norm.query_norm.scale"
        table[f"{new}.attn.norm_k.weight"] = f"{old}.norm.key_norm.scale"
        table.pair(f"{new}.proj_out", f"{old}.linear2")
    return table


def _flux_ends(table: Table, config: Config) -> None:
    embedders = {"timestep_embedder": "time_in", "text_embedder": "vector_in"}
    if config["guidance_embeds"]:
        embedders["guidance_embedder"] = "guidance_in"
    for new, old in embedders.items():
        table.pair(f"time_text_embed.{new}.linear_1", f"{old}.in_layer")
        table.pair(f"time_text_embed.{new}.linear_2", f"{old}.out_layer")
    table.swapped("norm_out.linear", "final_layer.adaLN_modulation.1")


def _chroma_ends(table: Table, config: Config) -> None:
    near = "distilled_guidance_layer"
    table.pair(f"{near}.in_proj", f"{near}.in_proj")
    table.pair(f"{near}.out_proj", f"{near}.out_proj")
    for i in range(config["approximator_layers"]):
        table.pair(f"{near}.layers.{i}.linear_1", f"{near}.layers.{i}.in_layer")
        table.pair(f"{near}.layers.{i}.linear_2", f"{near}.layers.{i}.out_layer")
        table[f"{near}.norms.{i}.weight"] = f"{near}.norms.{i}.scale"


def _double(table: Table, new: str, old: str, width: int, *, modulated: bool) -> None:
    sides = (
        ("img", "norm1", ("attn.to_q", "attn.to_k", "attn.to_v"), ("norm_q", "norm_k"), "attn.to_out.0", "ff"),
        (
            "txt", "norm1_context", ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
            ("norm_added_q", "norm_added_k"), "attn.to_add_out", "ff_context",
        ),
    )  # fmt: skip
    for side, modulation, projections, norms, out, feed in sides:
        if modulated:
            table.pair(f"{new}.{modulation}.linear", f"{old}.{side}_mod.lin")
        table.split(f"{old}.{side}_attn.qkv", [(f"{new}.{name}", width) for name in projections])
        for norm, name in zip(norms, ("query_norm", "key_norm"), strict=True):
            table[f"{new}.attn.{norm}.weight"] = f"{old}.{side}_attn.norm.{name}.scale"
        table.pair(f"{new}.{out}", f"{old}.{side}_attn.proj")
        table.pair(f"{new}.{feed}.net.0.proj", f"{old}.{side}_mlp.0")
        table.pair(f"{new}.{feed}.net.2", f"{old}.{side}_mlp.2")
