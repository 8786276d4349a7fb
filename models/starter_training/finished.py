"""A finished file's networks in diffusers' and transformers' classes: to measure them, or to go on from them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from models.starter_training import networks
from models.starter_training.words import Words
from modules.families.layouts.names import strip, text_names, unet_names, vae_names

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."


class Finished(NamedTuple):
    """What a file holds, in float32. text: with CLIP's whole table of tokens."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: CLIPTextModel


def finished(file: Path) -> Finished:
    """The networks of a starter's file, described by its metadata. Raises KeyError if they are not there."""
    with safe_open(file, framework="pt") as opened:
        config = json.loads(opened.metadata()["config"])
        tensors = {name: opened.get_tensor(name).float() for name in opened.offset_keys() if "position_ids" not in name}
    blocks = len(config["vae"]["block_out_channels"])
    sides = {"down_block_types": ["DownEncoderBlock2D"] * blocks, "up_block_types": ["UpDecoderBlock2D"] * blocks}
    unet, vae = UNet2DConditionModel(**config["unet"]), AutoencoderKL(**(sides | config["vae"]))
    numbers = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    text = CLIPTextModel(CLIPTextConfig(**(config["text_encoder"] | numbers)))
    for network, prefix, names in ((unet, UNET, unet_names), (vae, VAE, vae_names), (text, TEXT, text_names)):
        given = strip(tensors, prefix)
        _fill(network, {new: tensors[given[old]] for new, old in names(given).items()})
        network.eval().requires_grad_(False)
    return Finished(unet, vae, text)


def _fill(network: nn.Module, found: dict[str, Tensor]) -> None:
    """transformers before 5.6 keeps CLIP's layers one level down; the original's VAE has kernels for its attention."""
    own = network.state_dict()
    level = "text_model." if any(name.startswith("text_model.") for name in own) else ""
    network.load_state_dict({f"{level}{name}": value.view_as(own[f"{level}{name}"]) for name, value in found.items()})


def drawer_of(file: Path, words: Words) -> dict[str, Tensor]:
    """The state of a `networks.Drawer` that draws as the file does. Words that were not known begin as unknown ones."""
    found = finished(file)
    model = networks.Drawer(len(words))
    model.unet.load_state_dict(found.unet.state_dict())
    text: dict[str, Any] = dict(found.text.state_dict())
    (table,) = (name for name in text if name.endswith("token_embedding.weight"))
    text[table] = torch.cat([text[table][words.order], text[table][words.never][None]])
    model.text.load_state_dict(text)
    return model.state_dict()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Go on from a finished file: write its VAE and its drawer into the work folder."
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.save(drawer_of(options.file, Words()), options.work / "begin.pt")
    finished(options.file).vae.save_pretrained(options.work / "vae")


if __name__ == "__main__":
    main()
