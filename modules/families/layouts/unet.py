"""The UNet of Stable Diffusion 1, 2 and XL: its dimensions, and the tensor names that these imply.

`config` gives the keyword arguments of diffusers' `UNet2DConditionModel`. What shapes cannot tell (attention heads,
norm groups) comes from `told`; where that is silent, SD1 has 8 heads, and SD2 and SDXL, whose attention projects by
linear layers, have heads of 64 channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modules.core.errors import CorruptCheckpoint
from modules.families.layouts.shapes import Config, Shapes, divides, whole

_HEAD = 64
_MIDDLE = "mid_block.attentions.0"


def context_width(shapes: Shapes) -> int | None:
    """How wide the text is that the UNet attends to; None where it attends to none."""
    for stem in ("mid_block.attentions.0", "down_blocks.2.attentions.0", "down_blocks.1.attentions.0"):
        key = f"{stem}.transformer_blocks.0.attn2.to_k.weight"
        if shapes.has(key) and shapes.has(f"{stem}.norm.weight"):
            return shapes.across(key, shapes(f"{stem}.norm.weight")[0])
    return None


def config(shapes: Shapes, told: Mapping[str, Any]) -> Config:
    """Keyword arguments of `UNet2DConditionModel`. Raises CorruptCheckpoint, saying what is missing."""
    blocks = range(shapes.count(r"down_blocks\.(\d+)\."))
    channels = [shapes(f"down_blocks.{i}.resnets.0.conv1.weight")[0] for i in blocks]
    context = context_width(shapes)
    if not channels:
        raise CorruptCheckpoint("The UNet has no down blocks.")
    if context is None:
        raise CorruptCheckpoint("The UNet attends to no text.")
    attends = [shapes.has(f"down_blocks.{i}.attentions.0.proj_in.weight") for i in blocks]
    rises = [shapes.has(f"up_blocks.{i}.attentions.0.proj_in.weight") for i in blocks]
    groups = whole(told, "norm_num_groups", 32)
    divides("UNet channels", channels, groups, "norm groups")
    found: Config = {
        "in_channels": shapes("conv_in.weight")[1],
        "out_channels": shapes("conv_out.weight")[0],
        "block_out_channels": channels,
        "layers_per_block": shapes.count(r"down_blocks\.0\.resnets\.(\d+)\."),
        "down_block_types": ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in rises],
        "cross_attention_dim": context,
        "norm_num_groups": groups,
        "use_linear_projection": _linear(shapes),
        **_depths(shapes, len(channels)),
    }
    found["attention_head_dim"] = _heads(told, channels, attends, linear=found["use_linear_projection"])
    if shapes.has("time_embedding.cond_proj.weight"):  # of models that were distilled with guidance, such as LCM's
        found["time_cond_proj_dim"] = shapes("time_embedding.cond_proj.weight")[1]
    if shapes.has("add_embedding.linear_1.weight"):
        found["addition_embed_type"] = "text_time"
        found["addition_time_embed_dim"] = whole(told, "addition_time_embed_dim", 256)
        found["projection_class_embeddings_input_dim"] = shapes("add_embedding.linear_1.weight")[1]
    return found


def _linear(shapes: Shapes) -> bool:
    stem = next(
        name
        for name in (_MIDDLE, "down_blocks.1.attentions.0", "down_blocks.2.attentions.0", "down_blocks.0.attentions.0")
        if shapes.has(f"{name}.proj_in.weight")
    )
    return len(shapes(f"{stem}.proj_in.weight")) == 2


def _heads(told: Mapping[str, Any], channels: list[int], attends: list[bool], *, linear: bool) -> int | list[int]:
    """diffusers' `attention_head_dim`, which is the number of heads, one for all blocks or one for each."""
    value = told.get("attention_head_dim")
    if linear and value is None and all(width % _HEAD == 0 for width in channels):
        return [width // _HEAD for width in channels]
    counts = list(value) if isinstance(value, list) else [whole(told, "attention_head_dim", 8)] * len(channels)
    if len(counts) != len(channels) or any(type(count) is not int or count < 1 for count in counts):
        raise CorruptCheckpoint(f"The file's metadata gives attention_head_dim as {value!r}: one per block is wanted.")
    for width, count, has in zip(channels, counts, attends, strict=True):
        divides("UNet channels", [width] * has, count, "attention heads")
    return counts if isinstance(value, list) else counts[0]


def _depths(shapes: Shapes, blocks: int) -> Config:
    """How many transformer blocks each attention has, and what the middle is made of.

    Pruned models (SSD-1B, Vega) have other depths in each layer, and a middle without attention or none at all.
    """
    down = [_column(shapes, f"down_blocks.{i}") for i in range(blocks)]
    up = [_column(shapes, f"up_blocks.{i}") for i in range(blocks)]
    found: Config = {}
    if not shapes.has("mid_block.resnets.0.conv1.weight"):
        found["mid_block_type"] = None
    elif not shapes.has(f"{_MIDDLE}.norm.weight"):
        found["mid_block_type"] = "UNetMidBlock2D"
    middle = _depth(shapes, _MIDDLE)
    even = [set(column) for column in (*down, *up)]
    mirrored = all(set(a) == set(b) for a, b in zip(down, reversed(up), strict=True) if a and b)
    if all(len(depths) <= 1 for depths in even) and mirrored:
        each = [max(column, default=1) for column in down]
        # The middle goes by the last block's depth; where that has no attention of its own it says the middle's
        each[-1] = each[-1] if down[-1] else middle or max(each)
        found["transformer_layers_per_block"] = each[0] if len(set(each)) == 1 else each
        return found
    found["transformer_layers_per_block"] = [column or 1 for column in down]
    found["reverse_transformer_layers_per_block"] = [column or 1 for column in up]
    return found


def _column(shapes: Shapes, block: str) -> list[int]:
    layers = range(shapes.count(rf"{block}\.attentions\.(\d+)\."))
    return [_depth(shapes, f"{block}.attentions.{j}") for j in layers]


def _depth(shapes: Shapes, attention: str) -> int:
    return shapes.count(rf"{attention}\.transformer_blocks\.(\d+)\.")


def expected(config: Config) -> Iterator[str]:
    """Every tensor name of a UNet of these dimensions."""
    yield from pairs("conv_in", "time_embedding.linear_1", "time_embedding.linear_2", "conv_norm_out", "conv_out")
    if "time_cond_proj_dim" in config:
        yield "time_embedding.cond_proj.weight"
    if "addition_embed_type" in config:
        yield from pairs("add_embedding.linear_1", "add_embedding.linear_2")
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    last, depths = len(channels) - 1, config["transformer_layers_per_block"]
    down = depths if isinstance(depths, list) else [depths] * len(channels)
    up = config.get("reverse_transformer_layers_per_block", down[::-1])
    below = channels[0]
    for i, width in enumerate(channels):
        attends = config["down_block_types"][i] == "CrossAttnDownBlock2D"
        for j in range(layers):
            yield from resnet(f"down_blocks.{i}.resnets.{j}", shortcut=below != width)
            if attends:
                yield from _transformer(f"down_blocks.{i}.attentions.{j}", _at(down[i], j))
            below = width
        if i < last:
            yield from pairs(f"down_blocks.{i}.downsamplers.0.conv")
    middle = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    for j in range({"UNetMidBlock2DCrossAttn": 2, "UNetMidBlock2D": 1, None: 0}[middle]):
        yield from resnet(f"mid_block.resnets.{j}", shortcut=False)
    if middle == "UNetMidBlock2DCrossAttn":
        yield from _transformer(_MIDDLE, _at(down[-1], 0))
    for i in range(len(channels)):
        attends = config["up_block_types"][i] == "CrossAttnUpBlock2D"
        for j in range(layers + 1):
            yield from resnet(f"up_blocks.{i}.resnets.{j}", shortcut=True)
            if attends:
                yield from _transformer(f"up_blocks.{i}.attentions.{j}", _at(up[i], j))
        if i < last:
            yield from pairs(f"up_blocks.{i}.upsamplers.0.conv")


def _at(depth: int | list[int], layer: int) -> int:
    return depth if isinstance(depth, int) else depth[layer]


def pairs(*stems: str) -> Iterator[str]:
    """Weight and bias of each."""
    for stem in stems:
        yield f"{stem}.weight"
        yield f"{stem}.bias"


def resnet(stem: str, *, shortcut: bool, time: bool = True) -> Iterator[str]:
    """A residual block. shortcut: it changes the number of channels; time: it is told the noise level."""
    yield from pairs(*(f"{stem}.{name}" for name in ("norm1", "conv1", "norm2", "conv2")))
    if time:
        yield from pairs(f"{stem}.time_emb_proj")
    if shortcut:
        yield from pairs(f"{stem}.conv_shortcut")


def _transformer(stem: str, depth: int) -> Iterator[str]:
    yield from pairs(f"{stem}.norm", f"{stem}.proj_in", f"{stem}.proj_out")
    for k in range(depth):
        block = f"{stem}.transformer_blocks.{k}."
        yield from pairs(*(block + name for name in ("norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2")))
        for attention in ("attn1", "attn2"):
            yield from (f"{block}{attention}.to_{letter}.weight" for letter in "qkv")
            yield from pairs(f"{block}{attention}.to_out.0")
