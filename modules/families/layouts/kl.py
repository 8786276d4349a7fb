"""KL autoencoders (Rombach et al. 2022): dimensions, and the tensor names that these imply.

`config` gives the keyword arguments of diffusers' `AutoencoderKL`, without `scaling_factor` and `shift_factor`: shapes
do not tell these, and the family of the model that the VAE is used with does. They are there where the file says them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modules.core.errors import CorruptCheckpoint
from modules.families.layouts.shapes import Config, Shapes, divides, whole
from modules.families.layouts.unet import pairs, resnet


def config(shapes: Shapes, told: Mapping[str, Any]) -> Config:
    """Keyword arguments of `AutoencoderKL`."""
    blocks = range(shapes.count(r"encoder\.down_blocks\.(\d+)\."))
    channels = [shapes(f"encoder.down_blocks.{i}.resnets.0.conv1.weight")[0] for i in blocks]
    if not channels:
        raise CorruptCheckpoint("This VAE is a decoder alone, or its encoder is of a kind that is not known here.")
    groups = whole(told, "norm_num_groups", 32)
    divides("VAE channels", channels, groups, "norm groups")
    scales = {
        name: float(told[name])
        for name in ("scaling_factor", "shift_factor")
        if isinstance(told.get(name), int | float) and (told[name] > 0 or name == "shift_factor")
    }
    return {
        "in_channels": shapes("encoder.conv_in.weight")[1],
        "out_channels": shapes("decoder.conv_out.weight")[0],
        "latent_channels": shapes("decoder.conv_in.weight")[1],
        "block_out_channels": channels,
        "layers_per_block": shapes.count(r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "norm_num_groups": groups,
        "use_quant_conv": shapes.has("quant_conv.weight"),
        "use_post_quant_conv": shapes.has("post_quant_conv.weight"),
        **scales,
    }


def expected(config: Config) -> Iterator[str]:
    """Every tensor name of a VAE of these dimensions."""
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    last, reverse = len(channels) - 1, channels[::-1]
    if config["use_quant_conv"]:
        yield from pairs("quant_conv")
    if config["use_post_quant_conv"]:
        yield from pairs("post_quant_conv")
    for side in ("encoder", "decoder"):
        yield from pairs(f"{side}.conv_in", f"{side}.conv_norm_out", f"{side}.conv_out")
        for j in range(2):
            yield from resnet(f"{side}.mid_block.resnets.{j}", shortcut=False, time=False)
        attention = f"{side}.mid_block.attentions.0."
        yield from pairs(*(attention + name for name in ("group_norm", "to_q", "to_k", "to_v", "to_out.0")))
    for i in range(len(channels)):
        for j in range(layers):
            changes = j == 0 and i > 0 and channels[i] != channels[i - 1]
            yield from resnet(f"encoder.down_blocks.{i}.resnets.{j}", shortcut=changes, time=False)
        for j in range(layers + 1):
            changes = j == 0 and i > 0 and reverse[i] != reverse[i - 1]
            yield from resnet(f"decoder.up_blocks.{i}.resnets.{j}", shortcut=changes, time=False)
        if i < last:
            yield from pairs(f"encoder.down_blocks.{i}.downsamplers.0.conv", f"decoder.up_blocks.{i}.upsamplers.0.conv")
