"""Where the parts of a model are kept, and how they come to where they compute."""

from __future__ import annotations

import torch
from torch import nn

from modules.backbones.offload import Turns
from modules.backbones.wide_conv import widen
from modules.diffusion.arena import Arena
from modules.diffusion.backbone import Placement


def home(device: torch.device, placement: Placement) -> torch.device:
    """Where weights are kept: with less than all of the model on the device, on the CPU, whence they are brought."""
    return device if placement.vram == "normal" else torch.device("cpu")


def text_dtype(placement: Placement) -> torch.dtype:
    """What a text encoder computes in: there is no float16 on a CPU."""
    slow = placement.text_device.type == "cpu" and placement.dtype == torch.float16
    return torch.float32 if slow else placement.dtype


def arena_of(placement: Placement) -> Arena | None:
    """Where a model's weights go that cannot stay in its file: one for each model, which `Loaded.close` gives back."""
    return Arena(placement.pool) if placement.pool else None


def turns_of(placement: Placement) -> Turns:
    """Who is on the device when, as placement says; for `put` and `Loaded`."""
    return Turns(placement.device, placement.vram)


def put(part: nn.Module, device: torch.device, placement: Placement, turns: Turns | None) -> None:
    """Make a filled part, which lies at `home`, ready to compute on `device`.

    turns: the model's own, so that its mode can change later; None for a part that stays as placement says.
    """
    if device.type == "cpu":
        widen(part)
        return
    (turns or turns_of(placement)).add(part)
