"""A very small Stable Diffusion 1 checkpoint with random weights, for everybody's tests. Needs numpy, not torch.

Names and shapes are written down here once more, apart from the code that reads them, so that a mistake in the naming
rules of `modules.families` cannot agree with itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import load_file, save_file

Shape = tuple[int, ...]
UNET_WIDTHS, TEXT_WIDTH, VAE_WIDTHS, GROUPS, HEADS = (8, 16), 8, (4, 4, 8, 8), 4, 2
CONFIG = {
    "unet": {"attention_head_dim": HEADS, "norm_num_groups": GROUPS, "sample_size": 8},
    "vae": {"norm_num_groups": GROUPS},
    "text_encoder": {"num_attention_heads": HEADS},
}
NATIVE = 64  # pixels


def write_tiny_sd1(
    path: Path,
    seed: int = 0,
    dtype: Literal["F32", "F16"] = "F32",
    layout: Literal["original", "diffusers"] = "original",
    *,
    parts: tuple[str, ...] = ("unet", "text_encoder", "vae"),
    prediction: str = "epsilon",
) -> Path:
    """Write a checkpoint of about 2 MB whose native size is 64 x 64 pixels (a latent of 4 x 8 x 8); returns `path`."""
    rng = np.random.default_rng(seed)
    kind = np.float32 if dtype == "F32" else np.float16
    tensors = {}
    for part in parts:
        for name, shape in shapes(part, layout):
            tensors[name] = _weights(rng, name, shape).astype(kind)
    save_file(tensors, path, metadata=metadata(prediction))
    return path


def write_part(whole: Path, path: Path, *, prefix: str, to: str = "", **extras: Shape) -> Path:
    """Write the tensors of `whole` whose names begin with `prefix`, which becomes `to`, as a file of their own.

    extras: further tensors of ones, by name, that programs store beside them.
    """
    tensors = {to + n.removeprefix(prefix): t for n, t in load_file(whole).items() if n.startswith(prefix)}
    tensors |= {name: np.ones(shape, np.float32) for name, shape in extras.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=metadata())
    return path


def write_without(whole: Path, path: Path, *prefixes: str) -> Path:
    """Write `whole` less the tensors whose names begin with one of `prefixes`."""
    tensors = {name: tensor for name, tensor in load_file(whole).items() if not name.startswith(prefixes)}
    save_file(tensors, path, metadata=metadata())
    return path


def metadata(prediction: str = "epsilon") -> dict[str, str]:
    """What shapes cannot tell about the tiny checkpoint."""
    return {
        "format": "pt",
        "config": json.dumps(CONFIG),
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.prediction_type": prediction,
        "modelspec.resolution": f"{NATIVE}x{NATIVE}",
        "modelspec.title": "tiny",
    }


def shapes(part: str, layout: str) -> Iterator[tuple[str, Shape]]:
    """Name and shape of every tensor of "unet", "text_encoder" or "vae" in the "original" or "diffusers" layout."""
    original = layout == "original"
    if part == "unet":
        yield from _unet(original)
    elif part == "vae":
        yield from _vae(original)
    else:
        yield from _text("cond_stage_model.transformer.text_model." if original else "text_encoder.text_model.")


def _weights(rng: np.random.Generator, name: str, shape: Shape) -> np.ndarray[Shape, np.dtype[np.float64]]:
    if len(shape) > 1:
        fan_in = int(np.prod(shape[1:]))
        return rng.standard_normal(shape) * (1.0 if name.endswith("_embedding.weight") else fan_in**-0.5)
    return 0.1 * rng.standard_normal(shape) + (1.0 if name.endswith("weight") else 0.0)


def _pair(name: str, *shape: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _resnet(stem: str, before: int, after: int, time: int, original: bool) -> Iterator[tuple[str, Shape]]:
    inner = original and time > 0  # the original VAE names these as diffusers does
    norm1, conv1, norm2, conv2 = (
        ("in_layers.0", "in_layers.2", "out_layers.0", "out_layers.3")
        if inner
        else ("norm1", "conv1", "norm2", "conv2")
    )
    yield from _pair(f"{stem}.{norm1}", before)
    yield from _pair(f"{stem}.{conv1}", after, before, 3, 3)
    yield from _pair(f"{stem}.{norm2}", after)
    yield from _pair(f"{stem}.{conv2}", after, after, 3, 3)
    if time:
        yield from _pair(f"{stem}.{'emb_layers.1' if inner else 'time_emb_proj'}", after, time)
    if before != after:
        shortcut = "skip_connection" if inner else "nin_shortcut" if original else "conv_shortcut"
        yield from _pair(f"{stem}.{shortcut}", after, before, 1, 1)


def _attention(stem: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield from _pair(f"{stem}.norm", width)
    for name in ("proj_in", "proj_out"):
        yield from _pair(f"{stem}.{name}", width, width, 1, 1)
    block = f"{stem}.transformer_blocks.0."
    for name in ("norm1", "norm2", "norm3"):
        yield from _pair(block + name, width)
    for name, context in (("attn1", width), ("attn2", TEXT_WIDTH)):
        yield f"{block}{name}.to_q.weight", (width, width)
        yield f"{block}{name}.to_k.weight", (width, context)
        yield f"{block}{name}.to_v.weight", (width, context)
        yield from _pair(f"{block}{name}.to_out.0", width, width)
    yield from _pair(f"{block}ff.net.0.proj", width * 8, width)
    yield from _pair(f"{block}ff.net.2", width, width * 4)


def _unet(original: bool) -> Iterator[tuple[str, Shape]]:
    """Two resolutions of one residual block each; the lower one with cross-attention."""
    low, high = UNET_WIDTHS
    time = low * 4
    p = "model.diffusion_model." if original else "unet."

    def at(theirs: str, ours: str) -> str:
        return p + (theirs if original else ours)

    yield from _pair(at("time_embed.0", "time_embedding.linear_1"), time, low)
    yield from _pair(at("time_embed.2", "time_embedding.linear_2"), time, time)
    yield from _pair(at("input_blocks.0.0", "conv_in"), low, 4, 3, 3)
    yield from _resnet(at("input_blocks.1.0", "down_blocks.0.resnets.0"), low, low, time, original)
    yield from _pair(at("input_blocks.2.0.op", "down_blocks.0.downsamplers.0.conv"), low, low, 3, 3)
    yield from _resnet(at("input_blocks.3.0", "down_blocks.1.resnets.0"), low, high, time, original)
    yield from _attention(at("input_blocks.3.1", "down_blocks.1.attentions.0"), high)
    yield from _resnet(at("middle_block.0", "mid_block.resnets.0"), high, high, time, original)
    yield from _attention(at("middle_block.1", "mid_block.attentions.0"), high)
    yield from _resnet(at("middle_block.2", "mid_block.resnets.1"), high, high, time, original)
    yield from _resnet(at("output_blocks.0.0", "up_blocks.0.resnets.0"), high + high, high, time, original)
    yield from _attention(at("output_blocks.0.1", "up_blocks.0.attentions.0"), high)
    yield from _resnet(at("output_blocks.1.0", "up_blocks.0.resnets.1"), high + low, high, time, original)
    yield from _attention(at("output_blocks.1.1", "up_blocks.0.attentions.1"), high)
    yield from _pair(at("output_blocks.1.2.conv", "up_blocks.0.upsamplers.0.conv"), high, high, 3, 3)
    yield from _resnet(at("output_blocks.2.0", "up_blocks.1.resnets.0"), high + low, low, time, original)
    yield from _resnet(at("output_blocks.3.0", "up_blocks.1.resnets.1"), low + low, low, time, original)
    yield from _pair(at("out.0", "conv_norm_out"), low)
    yield from _pair(at("out.2", "conv_out"), 4, low, 3, 3)


def _text(p: str) -> Iterator[tuple[str, Shape]]:
    yield f"{p}embeddings.token_embedding.weight", (49408, TEXT_WIDTH)
    yield f"{p}embeddings.position_embedding.weight", (77, TEXT_WIDTH)
    for i in range(2):
        layer = f"{p}encoder.layers.{i}."
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"):
            yield from _pair(layer + name, TEXT_WIDTH, TEXT_WIDTH)
        yield from _pair(f"{layer}layer_norm1", TEXT_WIDTH)
        yield from _pair(f"{layer}layer_norm2", TEXT_WIDTH)
        yield from _pair(f"{layer}mlp.fc1", TEXT_WIDTH * 4, TEXT_WIDTH)
        yield from _pair(f"{layer}mlp.fc2", TEXT_WIDTH, TEXT_WIDTH * 4)
    yield from _pair(f"{p}final_layer_norm", TEXT_WIDTH)


def _vae(original: bool) -> Iterator[tuple[str, Shape]]:
    """Four resolutions (a factor of 8) of one residual block each."""
    p = "first_stage_model." if original else "vae."
    top = len(VAE_WIDTHS) - 1
    yield from _pair(f"{p}quant_conv", 8, 8, 1, 1)
    yield from _pair(f"{p}post_quant_conv", 4, 4, 1, 1)
    for side, channels, out in (("encoder", 3, 8), ("decoder", 4, 3)):
        first, last = (VAE_WIDTHS[0], VAE_WIDTHS[-1]) if side == "encoder" else (VAE_WIDTHS[-1], VAE_WIDTHS[0])
        yield from _pair(f"{p}{side}.conv_in", first, channels, 3, 3)
        yield from _pair(f"{p}{side}.{'norm_out' if original else 'conv_norm_out'}", last)
        yield from _pair(f"{p}{side}.conv_out", out, last, 3, 3)
        yield from _vae_middle(f"{p}{side}.", original)
    below = VAE_WIDTHS[0]
    for i, width in enumerate(VAE_WIDTHS):
        stem = f"{p}encoder.down.{i}.block.0" if original else f"{p}encoder.down_blocks.{i}.resnets.0"
        yield from _resnet(stem, below, width, 0, original)
        if i < top:
            stem = f"{p}encoder.down.{i}.downsample" if original else f"{p}encoder.down_blocks.{i}.downsamplers.0"
            yield from _pair(f"{stem}.conv", width, width, 3, 3)
        below = width
    for i, width in enumerate(reversed(VAE_WIDTHS)):
        for j in range(2):
            stem = f"{p}decoder.up.{top - i}.block.{j}" if original else f"{p}decoder.up_blocks.{i}.resnets.{j}"
            yield from _resnet(stem, below, width, 0, original)
            below = width
        if i < top:
            stem = f"{p}decoder.up.{top - i}.upsample" if original else f"{p}decoder.up_blocks.{i}.upsamplers.0"
            yield from _pair(f"{stem}.conv", width, width, 3, 3)


def _vae_middle(p: str, original: bool) -> Iterator[tuple[str, Shape]]:
    width = VAE_WIDTHS[-1]
    for j in range(2):
        yield from _resnet(
            f"{p}mid.block_{j + 1}" if original else f"{p}mid_block.resnets.{j}", width, width, 0, original
        )
    if original:
        yield from _pair(f"{p}mid.attn_1.norm", width)
        for name in ("q", "k", "v", "proj_out"):
            yield from _pair(f"{p}mid.attn_1.{name}", width, width, 1, 1)
    else:
        yield from _pair(f"{p}mid_block.attentions.0.group_norm", width)
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            yield from _pair(f"{p}mid_block.attentions.0.{name}", width, width)
