"""Networks compiled for training, with gradients that were compared with those of the networks as they were.

torch 2.13 compiles the backward pass of nearest upsampling wrongly on CPUs: everything in front of it in the network is
left without gradients, and the loss falls nevertheless. So the upsampling is put in another way before it is compiled,
and what comes out is checked.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor

from models.starter_training import networks
from models.starter_training.precision import computing

LEAST_AGREEMENT = 0.98  # cosine between gradients in bfloat16, each part's; 0 where there are none


def compile_in_place(model: networks.Drawer, x: Tensor, times: Tensor, ids: Tensor) -> None:
    """Compile a model, minutes on a CPU. x, times, ids: a batch as in training. Raises RuntimeError if it is wrong."""
    x = x.contiguous(memory_format=torch.channels_last)
    kept = copy.deepcopy(model.state_dict())
    with torch.no_grad():  # a fresh model's last layers are zero and let no gradient through: nothing could be compared
        for value in model.parameters():
            value.add_(torch.randn_like(value), alpha=0.02)
    plain = _gradients(copy.deepcopy(model), x, times, ids)
    # The graph stays whole: DDP would split it, to overlap with a network that is not there
    torch._dynamo.config.optimize_ddp = False
    for module in model.unet.modules():
        if isinstance(module, Upsample2D):
            module.interpolate = False
            module.register_forward_pre_hook(_doubled)
    model.unet.compile(dynamic=False)
    model.text.compile(dynamic=False)
    found = _gradients(model, x, times, ids)
    for name, wanted in plain.items():
        agreement = float(torch.nn.functional.cosine_similarity(found[name], wanted, dim=0))
        if agreement < LEAST_AGREEMENT:
            raise RuntimeError(f"Compiled, {name} has other gradients: their cosine is {agreement:.3f}.")
    model.zero_grad(set_to_none=True)
    model.load_state_dict(kept)


def _doubled(module: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    hidden, *rest = given
    return hidden.repeat_interleave(2, 2).repeat_interleave(2, 3), *rest


def _gradients(model: networks.Drawer, x: Tensor, times: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """One vector for each block: "unet.down_blocks.1" and its like."""
    with computing(x.device):
        answer = model(x, times, ids)
    (answer - x).square().mean().backward()
    parts: dict[str, list[Tensor]] = {}
    for name, value in model.named_parameters():
        if value.grad is not None:
            parts.setdefault(".".join(name.split(".")[:3]), []).append(value.grad.flatten())
    return {name: torch.cat(values) for name, values in parts.items()}
