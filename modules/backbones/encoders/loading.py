"""What loading has in common for all text encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from modules.backbones.packed.stored import StoredEmbedding, stored
from modules.backbones.packed.values import Packed
from modules.backbones.placing import home, text_dtype
from modules.backbones.weights import fill, map_tensors, skeleton
from modules.core.checkpoint import Header, ModelInfo, Names, Source
from modules.diffusion.arena import Arena
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
    described: ModelInfo | Header,
    *,
    names: Names,
    config: Mapping[str, Any],
    placement: Placement,
    dtype: torch.dtype,
    as_stored: bool = False,
    arena: Arena | None = None,
) -> Module:
    """A text encoder's module with the weights of file `described`, where `placement` keeps them; not yet put to use.

    names: its parameters, with or without a leading `text_model.`, -> the file's tensors. as_stored: weights that are
    kept on the CPU stay in the file's dtype, mapped, whatever is computed in, where `placement.storage` is "file".
    arena: memory for what is converted. Raises CheckpointError.
    """
    module = skeleton(kind, config, build)
    where, here = home(placement.text_device, placement), _as_here(module, names)
    tensors = map_tensors(described, names.values())
    tables: dict[str, Tensor] = {}
    if as_stored and where.type == "cpu" and placement.storage == "file":
        tables = {layer: table for layer, table in _tables(module, tensors, here) if table.dtype != dtype}
        tensors = {name: _as_stored(value, dtype) for name, value in tensors.items()}
        for layer, table in tables.items():  # takes no memory, until the true one takes its place
            tensors[_file_name(here[f"{layer}.weight"])] = torch.zeros((), dtype=dtype).expand(table.shape)
    fill(
        module,
        tensors,
        names=here,
        device=where,
        dtype=dtype,
        source=Path(described.path).name,
        storage=placement.storage,
        arena=arena,
    )
    for layer, table in tables.items():
        module.set_submodule(layer, StoredEmbedding(table, dtype))
    return module


def _as_stored(value: Tensor | Packed, dtype: torch.dtype) -> Tensor | Packed:
    if isinstance(value, Packed) or value.dim() != 2 or value.dtype == dtype:
        return value
    return stored(value)


def _tables(module: nn.Module, tensors: Mapping[str, Tensor | Packed], names: Names) -> Iterator[tuple[str, Tensor]]:
    """The embeddings of a module and the tensors that are theirs, where these are neither packed nor parts."""
    for layer, each in module.named_modules():
        value = tensors.get(_file_name(names.get(f"{layer}.weight", "")))
        if isinstance(each, nn.Embedding) and isinstance(value, Tensor) and value.shape == each.weight.shape:
            yield layer, value


def _file_name(source: str | Source) -> str:
    return source.name if isinstance(source, Source) else source


def _as_here(module: nn.Module, names: Names) -> Names:
    """The table under this transformers' own names: before 5.6 CLIP had its layers one level down, `text_model`."""
    own = {_bare(name): name for name in module.state_dict()}
    return {own.get(_bare(name), name): source for name, source in names.items()}


def _bare(name: str) -> str:
    return name.removeprefix("text_model.")
