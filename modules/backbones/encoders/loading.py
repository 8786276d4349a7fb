"""What loading has in common for all text encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from modules.backbones.placing import home, text_dtype
from modules.backbones.weights import fill, map_tensors, skeleton
from modules.core.checkpoint import ModelInfo, Names
from modules.diffusion.backbone import Placement

Module = TypeVar("Module", bound=nn.Module)


def wide_text_dtype(placement: Placement) -> torch.dtype:
    """What T5 and language models compute in: their states pass float16's largest number, 65504.

    bfloat16 takes as much memory and holds them; a CPU computes in what `text_dtype` says.
    """
    dtype = text_dtype(placement)
    return torch.bfloat16 if dtype == torch.float16 else dtype


def load_module(
    kind: type[Module],
    build: Callable[[Mapping[str, Any]], Module],
    info: ModelInfo,
    *,
    names: Names,
    config: Mapping[str, Any],
    placement: Placement,
    dtype: torch.dtype,
) -> Module:
    """A text encoder's module with the weights of file `info`, where `placement` keeps them; not yet put to use.

    names: its parameters, with or without a leading `text_model.`, -> the file's tensors. Raises CheckpointError.
    """
    module = skeleton(kind, config, build)
    fill(
        module,
        map_tensors(info, names.values()),  # type: ignore[arg-type,unused-ignore]  # parts of tensors come with packing
        names=_as_here(module, names),  # type: ignore[arg-type,unused-ignore]
        device=home(placement.text_device, placement),
        dtype=dtype,
        source=Path(info.path).name,
    )
    return module


def _as_here(module: nn.Module, names: Names) -> Names:
    """The table under this transformers' own names: before 5.6 CLIP had its layers one level down, `text_model`."""
    own = {_bare(name): name for name in module.state_dict()}
    return {own.get(_bare(name), name): source for name, source in names.items()}


def _bare(name: str) -> str:
    return name.removeprefix("text_model.")
