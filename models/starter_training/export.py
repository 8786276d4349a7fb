"""From the trained networks to one .safetensors file in Stable Diffusion 1's original layout."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from models.starter_training import networks
from models.starter_training.words import Words
from modules.families.layouts.names import unet_names, vae_names

VOCABULARY = 49408
DEFAULTS = {"cfg_scale": 4.0}
LICENCE = "MIT (weights); trained on Fluent Emoji (MIT)"


def whole_table(codes: Tensor, words: Words) -> Tensor:
    """(49408, width): a row of CLIP's for each of ours; every word never seen has the code of unknown ones."""
    table = codes[-1:].repeat(VOCABULARY, 1)
    table[torch.tensor(words.order)] = codes[: len(words.order)]
    return table


def original(names: Iterable[str], layers: int) -> dict[str, str]:
    """diffusers' UNet name -> the original layout's.

    The original numbers blocks in one row; `modules.families.layouts.names` reads that, and here is the way back.
    """
    return {name: _unet_name(name, set(names), layers) for name in names}


def _unet_name(name: str, every: set[str], layers: int) -> str:
    ends = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    }  # fmt: skip
    stem, _, leaf = name.rpartition(".")
    if stem in ends:
        return f"{ends[stem]}.{leaf}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        place = 2 * int(found[2]) if found[1] == "resnets" else 1
        return f"middle_block.{place}.{_inside(found[3])}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
    if found is None:
        raise KeyError(name)
    down, block, kind, layer = found[1] == "down", int(found[2]), found[3], int(found[4])
    row, first = ("input_blocks", 1) if down else ("output_blocks", 0)
    number = first + block * (layers + 1) + layer
    if kind == "downsamplers":
        return f"{row}.{number + layers}.0.op.{leaf}"
    if kind == "upsamplers":
        attends = any(each.startswith(f"up_blocks.{block}.attentions.") for each in every)
        return f"{row}.{number + layers}.{2 if attends else 1}.conv.{leaf}"
    return f"{row}.{number}.{0 if kind == 'resnets' else 1}.{_inside(found[5])}"


def _inside(rest: str) -> str:
    parts = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
        "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    stem, _, leaf = rest.rpartition(".")
    return f"{parts[stem]}.{leaf}" if stem in parts else rest


def vae_name(name: str, blocks: int) -> str:
    """diffusers' VAE name in the original layout."""
    name = re.sub(r"^encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name)
    if found := re.match(r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers\.0)\.", name):
        kind = "block" if found[2] == "resnets" else "upsample"
        name = f"decoder.up.{blocks - 1 - int(found[1])}.{kind}.{name[found.end() :]}"
    name = name.replace(".mid_block.resnets.0.", ".mid.block_1.").replace(".mid_block.resnets.1.", ".mid.block_2.")
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    if found := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)", name):
        name = f"{found[1]}.mid.attn_1.{attention[found[2]]}.{found[3]}"
    return name.replace(".conv_shortcut.", ".nin_shortcut.").replace(".conv_norm_out.", ".norm_out.")


def tensors_of(model: networks.Drawer, vae: AutoencoderKL, words: Words) -> dict[str, Tensor]:
    """Every tensor under its original name, float16."""
    unet, found = model.unet.state_dict(), {}
    table = original(unet, networks.UNET["layers_per_block"])
    if unet_names(table.values()) != dict(table):
        raise AssertionError("the names do not lead back to where they came from")
    for name, value in unet.items():
        found[f"model.diffusion_model.{table[name]}"] = value
    parts = vae.state_dict()
    names = {name: vae_name(name, len(networks.VAE["block_out_channels"])) for name in parts}
    if vae_names(names.values()) != names:
        raise AssertionError("the VAE's names do not lead back to where they came from")
    for name, value in parts.items():
        flat = ".mid_block.attentions." in name and value.ndim == 2
        found[f"first_stage_model.{names[name]}"] = value[:, :, None, None] if flat else value
    for name, value in model.text.state_dict().items():
        bare = name.removeprefix("text_model.")
        table_of_words = bare == "embeddings.token_embedding.weight"
        found[f"cond_stage_model.transformer.text_model.{bare}"] = (
            whole_table(value, words) if table_of_words else value
        )
    halves = {name: value.half().contiguous().clone() for name, value in found.items()}
    halves["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77).unsqueeze(0)
    return halves


def metadata() -> dict[str, str]:
    """SAI ModelSpec, and under `config` what shapes cannot tell."""
    keep: Mapping[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
        "unet": (networks.UNET, tuple(networks.UNET)),
        "vae": (networks.VAE, ("norm_num_groups", "scaling_factor", "block_out_channels", "layers_per_block")),
        "text_encoder": (networks.TEXT, tuple(networks.TEXT)),
    }
    size = networks.SIZE
    return {
        "format": "pt", "modelspec.sai_model_spec": "1.0.1", "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.implementation": "sgm", "modelspec.title": "Inferenz starter", "modelspec.license": LICENCE,
        "modelspec.resolution": f"{size}x{size}", "modelspec.prediction_type": "epsilon",
        "config": json.dumps({part: {name: of[name] for name in names} for part, (of, names) in keep.items()}),
        "inferenz.defaults": json.dumps(DEFAULTS),
    }  # fmt: skip


def export(work: Path, file: Path) -> Path:
    """Write the average of the trained weights; the file appears whole or not at all."""
    words = Words()
    model = networks.Drawer(len(words))
    state = torch.load(work / "drawer.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["average"])
    vae = AutoencoderKL.from_pretrained(work / "vae")
    beside = file.with_suffix(".part")
    save_file(tensors_of(model, vae, words), beside, metadata=metadata())
    beside.replace(file)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    file = export(options.work, options.file or options.work / "inferenz-starter.safetensors")
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
