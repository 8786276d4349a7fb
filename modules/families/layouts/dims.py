"""Dimensions of UNet, VAE and text encoder read from tensor shapes, and the tensor names these dimensions imply.

The results are keyword arguments of diffusers' `UNet2DConditionModel` and `AutoencoderKL` and of transformers'
`CLIPTextConfig`. What shapes cannot tell (attention heads, norm groups, activation) comes from `told`, the part's
entry in the file's `config` metadata, and is Stable Diffusion 1's value where that is silent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from modules.core.checkpoint import Header
from modules.core.errors import CorruptCheckpoint

Names = Mapping[str, str]
Config = dict[str, Any]
CLIP_TOKENS = 49408


class Shapes:
    """Shapes of one part of a file under diffusers' names. Asking for an absent tensor raises CorruptCheckpoint."""

    def __init__(self, header: Header, names: Names) -> None:
        self._header, self._names = header, names

    def __call__(self, name: str) -> tuple[int, ...]:
        key = self._names.get(name)
        shape = self._header.shape(key) if key else None
        if not shape:
            raise CorruptCheckpoint(f"{self._header.path.name} is incomplete: {name} is missing.")
        return shape

    def has(self, name: str) -> bool:
        return name in self._names

    def count(self, pattern: str) -> int:
        """One more than the highest number that the group of `pattern` matches at the start of a name; 0 for none."""
        expression = re.compile(pattern)
        return max((int(found[1]) + 1 for name in self._names if (found := expression.match(name))), default=0)


def told_config(header: Header) -> Mapping[str, Mapping[str, Any]]:
    """The `config` metadata: a JSON object per part. Other tools' values under that name are not ours and ignored."""
    try:
        told = json.loads(header.metadata.get("config", "{}"))
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    return {part: values for part, values in told.items() if isinstance(values, dict)}


def unet_config(shapes: Shapes, told: Mapping[str, Any]) -> Config:
    """Keyword arguments of `UNet2DConditionModel`. Raises CorruptCheckpoint, saying what is missing."""
    blocks = range(shapes.count(r"down_blocks\.(\d+)\."))
    channels = [shapes(f"down_blocks.{i}.resnets.0.conv1.weight")[0] for i in blocks]
    if not channels:
        raise CorruptCheckpoint("The UNet has no down blocks.")
    attends = [shapes.has(f"down_blocks.{i}.attentions.0.proj_in.weight") for i in blocks]
    cross = shapes("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight")[1]
    heads, groups = whole(told, "attention_head_dim", 8), whole(told, "norm_num_groups", 32)
    divides("UNet channels", channels, groups, "norm groups")
    divides("UNet channels", [c for c, has in zip(channels, attends, strict=True) if has], heads, "attention heads")
    return {
        "in_channels": shapes("conv_in.weight")[1],
        "out_channels": shapes("conv_out.weight")[0],
        "block_out_channels": channels,
        "layers_per_block": shapes.count(r"down_blocks\.0\.resnets\.(\d+)\."),
        "down_block_types": ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attends)],
        "cross_attention_dim": cross,
        "attention_head_dim": heads,
        "norm_num_groups": groups,
        "use_linear_projection": len(shapes("mid_block.attentions.0.proj_in.weight")) == 2,
        "transformer_layers_per_block": shapes.count(r"mid_block\.attentions\.0\.transformer_blocks\.(\d+)\."),
    }


def vae_config(shapes: Shapes, told: Mapping[str, Any]) -> Config:
    """Keyword arguments of `AutoencoderKL`."""
    blocks = range(shapes.count(r"encoder\.down_blocks\.(\d+)\."))
    channels = [shapes(f"encoder.down_blocks.{i}.resnets.0.conv1.weight")[0] for i in blocks]
    if not channels:
        raise CorruptCheckpoint("The VAE has no encoder.")
    groups = whole(told, "norm_num_groups", 32)
    divides("VAE channels", channels, groups, "norm groups")
    scaling = told.get("scaling_factor", 0.18215)
    return {
        "in_channels": shapes("encoder.conv_in.weight")[1],
        "out_channels": shapes("decoder.conv_out.weight")[0],
        "latent_channels": shapes("decoder.conv_in.weight")[1],
        "block_out_channels": channels,
        "layers_per_block": shapes.count(r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "norm_num_groups": groups,
        "scaling_factor": float(scaling) if isinstance(scaling, int | float) and scaling > 0 else 0.18215,
        "use_quant_conv": shapes.has("quant_conv.weight"),
        "use_post_quant_conv": shapes.has("post_quant_conv.weight"),
    }


def text_config(shapes: Shapes, told: Mapping[str, Any]) -> Config:
    """Keyword arguments of `CLIPTextConfig`. 49406 and 49407 are CLIP's begin and end tokens."""
    vocabulary, width = shapes("embeddings.token_embedding.weight")
    if vocabulary < CLIP_TOKENS:
        raise CorruptCheckpoint(
            f"The text encoder knows {vocabulary:,} tokens where CLIP's tokenizer has {CLIP_TOKENS:,}."
        )
    heads = whole(told, "num_attention_heads", 12)
    divides("Text encoder width", [width], heads, "attention heads")
    activation = told.get("hidden_act", "quick_gelu")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": shapes("encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": shapes.count(r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": heads,
        "max_position_embeddings": shapes("embeddings.position_embedding.weight")[0],
        "hidden_act": activation if activation in ("quick_gelu", "gelu") else "quick_gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }


def whole(told: Mapping[str, Any], name: str, default: int) -> int:
    """A positive whole number out of metadata, or `default` where there is none."""
    value = told.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CorruptCheckpoint(f"The file's metadata gives {name} as {value!r}, which is no positive whole number.")
    return value


def divides(what: str, sizes: list[int], divisor: int, name: str) -> None:
    """Raise CorruptCheckpoint unless `divisor` divides all `sizes`."""
    if any(size % divisor for size in sizes):
        listed = ", ".join(map(str, sizes))
        raise CorruptCheckpoint(f"{what} of {listed} cannot be split into {divisor} {name}: the metadata is wrong.")


def expected_unet(config: Config) -> Iterator[str]:
    """Every tensor name of a UNet of these dimensions."""
    yield from _pairs("conv_in", "time_embedding.linear_1", "time_embedding.linear_2", "conv_norm_out", "conv_out")
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    depth, last = config["transformer_layers_per_block"], len(config["block_out_channels"]) - 1
    below = channels[0]
    for i, width in enumerate(channels):
        attends = config["down_block_types"][i] == "CrossAttnDownBlock2D"
        for j in range(layers):
            yield from _resnet(f"down_blocks.{i}.resnets.{j}", shortcut=below != width)
            if attends:
                yield from _transformer(f"down_blocks.{i}.attentions.{j}", depth)
            below = width
        if i < last:
            yield from _pairs(f"down_blocks.{i}.downsamplers.0.conv")
    for j in range(2):
        yield from _resnet(f"mid_block.resnets.{j}", shortcut=False)
    yield from _transformer("mid_block.attentions.0", depth)
    for i in range(len(channels)):
        attends = config["up_block_types"][i] == "CrossAttnUpBlock2D"
        for j in range(layers + 1):
            yield from _resnet(f"up_blocks.{i}.resnets.{j}", shortcut=True)
            if attends:
                yield from _transformer(f"up_blocks.{i}.attentions.{j}", depth)
        if i < last:
            yield from _pairs(f"up_blocks.{i}.upsamplers.0.conv")


def expected_vae(config: Config) -> Iterator[str]:
    """Every tensor name of a VAE of these dimensions."""
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    last, reverse = len(channels) - 1, channels[::-1]
    if config["use_quant_conv"]:
        yield from _pairs("quant_conv")
    if config["use_post_quant_conv"]:
        yield from _pairs("post_quant_conv")
    for side in ("encoder", "decoder"):
        yield from _pairs(f"{side}.conv_in", f"{side}.conv_norm_out", f"{side}.conv_out")
        for j in range(2):
            yield from _resnet(f"{side}.mid_block.resnets.{j}", shortcut=False, time=False)
        attention = f"{side}.mid_block.attentions.0."
        yield from _pairs(*(attention + name for name in ("group_norm", "to_q", "to_k", "to_v", "to_out.0")))
    for i in range(len(channels)):
        for j in range(layers):
            changes = j == 0 and i > 0 and channels[i] != channels[i - 1]
            yield from _resnet(f"encoder.down_blocks.{i}.resnets.{j}", shortcut=changes, time=False)
        for j in range(layers + 1):
            changes = j == 0 and i > 0 and reverse[i] != reverse[i - 1]
            yield from _resnet(f"decoder.up_blocks.{i}.resnets.{j}", shortcut=changes, time=False)
        if i < last:
            yield from _pairs(
                f"encoder.down_blocks.{i}.downsamplers.0.conv", f"decoder.up_blocks.{i}.upsamplers.0.conv"
            )


def expected_text(config: Config) -> Iterator[str]:
    """Every tensor name of a CLIP text model of these dimensions."""
    yield from ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight")
    yield from _pairs("final_layer_norm")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{i}."
        yield from _pairs(*(f"{layer}self_attn.{name}_proj" for name in ("q", "k", "v", "out")))
        yield from _pairs(f"{layer}layer_norm1", f"{layer}layer_norm2", f"{layer}mlp.fc1", f"{layer}mlp.fc2")


def _pairs(*stems: str) -> Iterator[str]:
    for stem in stems:
        yield f"{stem}.weight"
        yield f"{stem}.bias"


def _resnet(stem: str, *, shortcut: bool, time: bool = True) -> Iterator[str]:
    yield from _pairs(*(f"{stem}.{name}" for name in ("norm1", "conv1", "norm2", "conv2")))
    if time:
        yield from _pairs(f"{stem}.time_emb_proj")
    if shortcut:
        yield from _pairs(f"{stem}.conv_shortcut")


def _transformer(stem: str, depth: int) -> Iterator[str]:
    yield from _pairs(f"{stem}.norm", f"{stem}.proj_in", f"{stem}.proj_out")
    for k in range(depth):
        block = f"{stem}.transformer_blocks.{k}."
        yield from _pairs(*(block + name for name in ("norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2")))
        for attention in ("attn1", "attn2"):
            yield from (f"{block}{attention}.to_{letter}.weight" for letter in "qkv")
            yield from _pairs(f"{block}{attention}.to_out.0")
