"""From a model file to a filled model: memory-mapped tensors, an empty skeleton, and assignment.

The skeleton is made on the meta device through accelerate, so nothing is allocated or initialised; each parameter then
becomes a view of the mapped file, or a part of one. Where file and compute dtype (or device) agree with the CPU's, no
byte is copied and no page is read before the first forward pass. Linear layers whose weights are packed in the file
keep them packed. A file must not be overwritten in place while it is mapped: write a new one and rename it, as every
downloader does; the model manager notices the change by modification time.
"""

from __future__ import annotations

import copy
import functools
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from modules.backbones.packed.values import Packed
from modules.backbones.parameters import (
    Places,
    Storage,
    check_shape,
    cut,
    kept_packed,
    linear_layers,
    never_rounded,
    put_packed,
)
from modules.backbones.sources import map_tensors, read_described
from modules.core.checkpoint import Names, Source
from modules.core.errors import CorruptCheckpoint
from modules.diffusion.arena import Arena

__all__ = ["Storage", "fill", "map_tensors", "read_described", "skeleton", "weight_bytes"]

Module = TypeVar("Module", bound=nn.Module)


def skeleton(kind: type[Module], config: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Module]) -> Module:
    """A module with its parameters on the meta device and its buffers real; in evaluation mode, without grad.

    build: makes one of `config`, JSON's types, and depends on nothing else. That takes up to half a second, as all
    parameters are "initialised", so one of each kind and configuration is kept and copied.
    """
    kept = _kept(f"{kind.__module__}.{kind.__qualname__}", json.dumps(config, sort_keys=True), _Builder(build))
    if not isinstance(kept, kind):
        raise TypeError(f"a {type(kept).__name__} was built where a {kind.__name__} was wanted")
    return _twin(kept)


def _twin(module: Module) -> Module:
    """A copy whose modules and buffers are its own. Parameters, about to be replaced, and plain attributes are shared.

    Four times as fast as copy.deepcopy, which takes longer than mapping 2 GB and everything else.
    """
    twin = module.__class__.__new__(module.__class__)
    for name, value in vars(module).items():
        if type(value) in (dict, OrderedDict, set):  # which know a faster way
            twin.__dict__[name] = value.copy()
        else:
            twin.__dict__[name] = copy.copy(value) if isinstance(value, (dict, set)) else value
    twin._modules = {name: child and _twin(child) for name, child in module._modules.items()}
    twin._buffers = {name: None if value is None else value.clone() for name, value in module._buffers.items()}
    return twin


@dataclass(frozen=True)
class _Builder:
    """A function that does not count in a cache's key: all for one kind and configuration make the same."""

    build: Callable[[Any], nn.Module] = field(compare=False)


@functools.lru_cache(maxsize=16)
def _kept(kind: str, config: str, builder: _Builder) -> nn.Module:
    with init_empty_weights(include_buffers=False):
        model = builder.build(json.loads(config))
    return model.eval().requires_grad_(False)


def fill(
    model: nn.Module,
    tensors: Mapping[str, Tensor | Packed],
    *,
    names: Names,
    device: torch.device,
    dtype: torch.dtype,
    source: str,
    storage: Storage = "file",
    arena: Arena | None = None,
) -> None:
    """Give every parameter of `model` its tensor, on `device`, to compute in `dtype`.

    names: parameter name -> tensor of the file, or a part of one, or one turned around; tensors: what `map_tensors`
    makes of its values. source: the file's name, for messages. storage: see `Storage`. arena: the memory for what
    cannot stay in the mapped file (another dtype, halves that change places), and for the buffers on the way to a
    device; without one, memory is fresh. On the CPU, what has the dtype already is a view of the file, rows and
    transposed ones as well.

    Raises CorruptCheckpoint naming parameters without a tensor, tensors without a parameter, and wrong shapes.
    """
    wanted = model.state_dict()
    table = {name: Source(value) if isinstance(value, str) else value for name, value in names.items()}
    missing = sorted(set(wanted) - set(table))
    unknown = sorted(table[name].name for name in set(table) - set(wanted))
    if missing or unknown:
        what = [f"missing: {_few(missing)}"] * bool(missing) + [f"unknown: {_few(unknown)}"] * bool(unknown)
        raise CorruptCheckpoint(f"{source} does not fit its own dimensions; {'; '.join(what)}.")
    places = Places(device, dtype, arena)
    layers = {} if storage == "compute" else linear_layers(model)
    keep_whole = never_rounded(model) if storage == "fp8" else None
    state: dict[str, Tensor] = {}
    placed: dict[Source, Tensor] = {}  # tied weights are one tensor
    for name, empty in wanted.items():
        part, shape = table[name], tuple(empty.shape)
        value = cut(tensors[part.name], part, places, source)
        check_shape(value, shape, f"{source}: {part.name}")
        layer = name.removesuffix(".weight")
        if layer != name and layer in layers:
            packed = kept_packed(layers[layer], layer, value, keep_whole, places)
            if packed:
                state |= put_packed(model, layer, packed, dtype)
                continue
        if part not in placed:
            placed[part] = places.values(value)
        state[name] = placed[part].reshape(shape)
    places.finish()
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False)
    _check_filled(model, device, source)


def _check_filled(model: nn.Module, device: torch.device, source: str) -> None:
    """Bring buffers to the device; raise CorruptCheckpoint where something has no values."""
    on_meta = [name for name, value in (*model.named_parameters(), *model.named_buffers()) if value.is_meta]
    if on_meta:
        raise CorruptCheckpoint(f"{source} left {_few(on_meta)} without weights.")
    for buffer_name, buffer in list(model.named_buffers()):
        if buffer.device != device:
            owner, _, leaf = buffer_name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, buffer.to(device))


def weight_bytes(*models: nn.Module) -> int:
    """Bytes of all parameters and buffers, as they are kept; what several of them look at counts once."""
    values = (value for model in models for value in (*model.parameters(), *model.buffers()))
    sizes = {(value.device, value.data_ptr() or id(value), value.shape): value.nbytes for value in values}
    return sum(sizes.values())


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
