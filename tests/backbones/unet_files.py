"""Files of the tiny networks of `tests.backbones.unets`: the original layout in one file, and diffusers' folder.

The original names are written down here from how CompVis, Stability AI and OpenCLIP name things, the other way round
than the code that reads them, so that a mistake in its rules cannot agree with itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.backbones.unet_pipelines import pipeline
from tests.backbones.unets import DEVIATION, GROUPS, MEAN, Kind

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "time_embedding.cond_proj",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
_OPEN = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
_ARCHITECTURES = {
    "sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512", "sdxl": "stable-diffusion-xl-v1-base",
}  # fmt: skip


def write_folder(kind: Kind, networks: Mapping[str, Any], folder: Path) -> Path:
    """What `save_pretrained` writes; returns its model_index.json."""
    pipeline(kind, networks).save_pretrained(folder)
    return folder / "model_index.json"


def write_original(kind: Kind, networks: Mapping[str, Any], path: Path) -> Path:
    """One file as the models' authors publish them; returns `path`."""
    tensors: dict[str, Tensor] = {}
    for name, value in networks["unet"].state_dict().items():
        tensors[f"model.diffusion_model.{unet_name(name, layers=1 + kind.pruned, attends=(False, True))}"] = value
    for name, value in networks["vae"].state_dict().items():
        new, shaped = vae_name(name, value)
        tensors[f"first_stage_model.{new}"] = shaped
    for component, encoder in kind.texts:
        state = {n.removeprefix("text_model."): v for n, v in networks[component].state_dict().items()}
        if encoder == "clip_l":
            place = "cond_stage_model" if kind.family == "sd1" else "conditioner.embedders.0"
            tensors |= {f"{place}.transformer.text_model.{name}": value for name, value in state.items()}
        else:
            number = 0 if kind.variant == "refiner" else 1
            place = "cond_stage_model" if kind.family == "sd2" else f"conditioner.embedders.{number}"
            if kind.family == "sd2":
                state |= _last_layer(state)
            tensors |= {f"{place}.model.{name}": value for name, value in open_clip(state).items()}
    if kind.zero_terminal_snr:
        tensors |= {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    if kind.edm == "playground":
        tensors |= {"edm_mean": torch.tensor(MEAN), "edm_std": torch.tensor(DEVIATION)}
    elif kind.edm:
        tensors |= {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata=metadata(kind, networks))
    return path


def metadata(kind: Kind, networks: Mapping[str, Any]) -> dict[str, str]:
    """What shapes this small cannot tell."""
    unet = networks["unet"].config
    told: dict[str, Any] = {
        "unet": {"attention_head_dim": unet.attention_head_dim, "norm_num_groups": GROUPS},
        "vae": {"norm_num_groups": GROUPS},
    }
    if kind.numbers:
        told["unet"]["addition_time_embed_dim"] = unet.addition_time_embed_dim
    for component, encoder in kind.texts:
        told[component] = {
            "num_attention_heads": 2, "kind": encoder, "hidden_act": networks[component].config.hidden_act
        }  # fmt: skip
    refined = kind.variant == "refiner"
    return {
        "config": json.dumps(told),
        "modelspec.architecture": "stable-diffusion-xl-v1-refiner" if refined else _ARCHITECTURES[kind.family],
        "modelspec.prediction_type": kind.prediction,
        "modelspec.resolution": "64x64",
    }


def unet_name(name: str, *, layers: int, attends: tuple[bool, ...]) -> str:
    """diffusers' name -> the original one. attends: of each block on the way down, whether it attends to the text."""
    stem, _, leaf = name.rpartition(".")
    if stem in _ENDS:
        return f"{_ENDS[stem]}.{leaf}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_inside(found[3])}"
    found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name)
    assert found, name
    down, block, part, layer = found[1] == "down", int(found[2]), found[3], int(found[4])
    if part == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{leaf}"
    if part == "upsamplers":
        place = 2 if attends[len(attends) - 1 - block] else 1
        return f"output_blocks.{(block + 1) * (layers + 1) - 1}.{place}.conv.{leaf}"
    number = block * (layers + 1) + layer + down
    return f"{'input' if down else 'output'}_blocks.{number}.{int(part == 'attentions')}.{_inside(found[5])}"


def _inside(rest: str) -> str:
    stem, _, leaf = rest.rpartition(".")
    return f"{_RESNET[stem]}.{leaf}" if stem in _RESNET else rest


def vae_name(name: str, value: Tensor, *, blocks: int = 4) -> tuple[str, Tensor]:
    """The original name and the tensor as it is kept there: attention by 1 x 1 convolutions."""
    if found := re.match(r"(.+)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)", name):
        theirs = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}[found[2]]
        shaped = value[:, :, None, None] if value.dim() == 2 else value
        return f"{found[1]}.mid.attn_1.{theirs}.{found[3]}", shaped
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{blocks - 1 - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample.", name)
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut"), value


def open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names of an OpenCLIP text encoder -> its own, where query, key and value are one tensor."""
    found: dict[str, Tensor] = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
    }
    if "text_projection.weight" in state:
        found["text_projection"] = state["text_projection.weight"].T
    layers = {int(name.split(".")[2]) for name in state if name.startswith("encoder.layers.")}
    for i in layers:
        old, new = f"encoder.layers.{i}.", f"transformer.resblocks.{i}."
        for leaf in ("weight", "bias"):
            parts = [state[f"{old}self_attn.{letter}_proj.{leaf}"] for letter in "qkv"]
            found[f"{new}attn.in_proj_{leaf}"] = torch.cat(parts)
            found[f"{new}attn.out_proj.{leaf}"] = state[f"{old}self_attn.out_proj.{leaf}"]
            found |= {f"{new}{theirs}.{leaf}": state[f"{old}{ours}.{leaf}"] for ours, theirs in _OPEN.items()}
    return found


def _last_layer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layer that Stable Diffusion 2 never reads and diffusers leaves out."""
    count = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layers."))
    first = "encoder.layers.0."
    extra = {name: value for name, value in state.items() if name.startswith(first)}
    return {f"encoder.layers.{count}.{name.removeprefix(first)}": value * 3 for name, value in extra.items()}
