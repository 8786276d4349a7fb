"""Where the parts of a diffusers pipeline are kept: on the device, or on the CPU whence they are brought.

Such a pipeline cannot be estimated, as nobody knows what it does. It begins on the device where its weights fit at all,
and what runs out of memory is tried again with less of it there.
"""

from __future__ import annotations

import gc
from typing import Any, Literal

import torch

Mode = Literal["normal", "medium", "low"]
LESS: dict[Mode, Mode] = {"normal": "medium", "medium": "low"}
SHORT = {
    "medium": "There was too little memory: the picture is made anew with one part of the model on the device.",
    "low": "There was too little memory: the picture is made anew with one layer of the model on the device.",
}


def first_mode(wanted: Mode, device: torch.device, weight_bytes: int) -> Mode:
    """`wanted`, or "medium" where all weights together are more than the device has."""
    if wanted != "normal" or device.type != "cuda" or not torch.cuda.is_available():
        return wanted
    return wanted if weight_bytes < torch.cuda.get_device_properties(device).total_memory else "medium"


def keep(pipeline: Any, device: torch.device, mode: Mode) -> None:
    """Keep a pipeline as `mode` says, whatever it was before. The CPU has one memory: there all of it stays."""
    pipeline.remove_all_hooks()
    if device.type == "cpu" or mode == "normal":
        pipeline.to(device)
        return
    pipeline.to("cpu", silence_dtype_warnings=True)
    gc.collect()  # hooks make cycles with what they hook
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if mode == "medium":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def decode_in_tiles(pipeline: Any) -> None:
    """Let the VAE decode in tiles from now on, where it can."""
    enable = getattr(getattr(pipeline, "vae", None), "enable_tiling", None)
    if enable is not None:
        enable()
