"""The video VAE of Wan 2.1, which Qwen-Image uses frame by frame: 16 latent channels, three-dimensional convolutions.

`config` gives the keyword arguments of diffusers' `AutoencoderKLQwenImage`, `original` the names in Wan's layout. Means
and deviations of the latent channels are the class's own unless the file says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.core.errors import CorruptCheckpoint
from modules.families.layouts.shapes import Config, Shapes, Table

_BLOCK = {"norm1.gamma": "0.gamma", "conv1": "2", "norm2.gamma": "3.gamma", "conv2": "6"}


def config(shapes: Shapes, told: Mapping[str, Any]) -> Config:
    """Keyword arguments of the class. shapes: under either layout's names."""
    original = shapes.has("encoder.conv1.weight")
    down = "encoder.downsamples" if original else "encoder.down_blocks"
    conv = "residual.2.weight" if original else "conv1.weight"
    base = shapes(f"encoder.{'conv1' if original else 'conv_in'}.bias")[0]
    widths: list[list[int]] = [[]]
    temporal: list[bool] = []
    for i in range(shapes.count(down.replace(".", r"\.") + r"\.(\d+)\.")):
        if shapes.has(f"{down}.{i}.resample.1.weight"):
            widths.append([])
            temporal.append(shapes.has(f"{down}.{i}.time_conv.weight"))
        elif shapes.has(f"{down}.{i}.{conv}"):
            widths[-1].append(shapes(f"{down}.{i}.{conv}")[0])
    if not all(widths):
        raise CorruptCheckpoint("The VAE's encoder has a resolution without blocks.")
    found: Config = {
        "base_dim": base,
        "z_dim": shapes(f"decoder.{'conv1' if original else 'conv_in'}.weight")[1],
        "dim_mult": [each[-1] // base for each in widths],
        "num_res_blocks": len(widths[0]),
        "attn_scales": [],
        "temperal_downsample": temporal,
    }
    for name in ("latents_mean", "latents_std"):
        if isinstance(told.get(name), list):
            found[name] = list(told[name])
    return found


def original(config: Config) -> Table:
    """diffusers name -> Wan's name, of every parameter of a VAE with this configuration."""
    table = Table()
    table.pair("quant_conv", "conv1")
    table.pair("post_quant_conv", "conv2")
    widths, blocks = [config["base_dim"] * each for each in (1, *config["dim_mult"])], config["num_res_blocks"]
    for side in ("encoder", "decoder"):
        table.pair(f"{side}.conv_in", f"{side}.conv1")
        _residual(table, f"{side}.mid_block.resnets.0", f"{side}.middle.0")
        _residual(table, f"{side}.mid_block.resnets.1", f"{side}.middle.2")
        attention, old = f"{side}.mid_block.attentions.0", f"{side}.middle.1"
        table[f"{attention}.norm.gamma"] = f"{old}.norm.gamma"
        table.pair(f"{attention}.to_qkv", f"{old}.to_qkv")
        table.pair(f"{attention}.proj", f"{old}.proj")
        table[f"{side}.norm_out.gamma"] = f"{side}.head.0.gamma"
        table.pair(f"{side}.conv_out", f"{side}.head.2")
    _encoder(table, widths, blocks, config["temperal_downsample"])
    _decoder(table, widths, blocks, config["temperal_downsample"])
    return table


def _encoder(table: Table, widths: list[int], blocks: int, temporal: list[bool]) -> None:
    place, last = 0, len(widths) - 2
    for i, width in enumerate(widths[1:]):
        for j in range(blocks):
            changes = j == 0 and widths[i] != width
            _residual(table, f"encoder.down_blocks.{place}", f"encoder.downsamples.{place}", shortcut=changes)
            place += 1
        if i < last:
            _resample(table, f"encoder.down_blocks.{place}", f"encoder.downsamples.{place}", time=temporal[i])
            place += 1


def _decoder(table: Table, widths: list[int], blocks: int, temporal: list[bool]) -> None:
    up = [widths[-1], *widths[:0:-1]]  # the middle's width, then that of each resolution from the lowest
    place, last = 0, len(up) - 2
    for i, width in enumerate(up[1:]):
        below = up[i] // 2 if i > 0 else up[i]  # going up halves the channels
        for j in range(blocks + 1):
            changes = j == 0 and below != width
            _residual(table, f"decoder.up_blocks.{i}.resnets.{j}", f"decoder.upsamples.{place}", shortcut=changes)
            place += 1
        if i < last:
            time = temporal[::-1][i]
            _resample(table, f"decoder.up_blocks.{i}.upsamplers.0", f"decoder.upsamples.{place}", time=time)
            place += 1


def _residual(table: Table, new: str, old: str, *, shortcut: bool = False) -> None:
    for ours, theirs in _BLOCK.items():
        if ours.endswith("gamma"):
            table[f"{new}.{ours}"] = f"{old}.residual.{theirs}"
        else:
            table.pair(f"{new}.{ours}", f"{old}.residual.{theirs}")
    if shortcut:
        table.pair(f"{new}.conv_shortcut", f"{old}.shortcut")


def _resample(table: Table, new: str, old: str, *, time: bool) -> None:
    table.pair(f"{new}.resample.1", f"{old}.resample.1")
    if time:
        table.pair(f"{new}.time_conv", f"{old}.time_conv")
