"""From a safetensors file to a filled model: memory-mapped tensors, an empty skeleton, and assignment.

The skeleton is made on the meta device through accelerate, so nothing is allocated or initialised; each parameter then
becomes a view of the mapped file. Where file and compute dtype (or device) agree with the CPU's, no byte is copied
and no page is read before the first forward pass. A file must not be overwritten in place while it is mapped: write a
new one and rename it, as every downloader does; the model manager notices the change by modification time.
"""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from modules.core.checkpoint import ModelInfo, unreadable
from modules.core.errors import CorruptCheckpoint

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


def map_tensors(info: ModelInfo, names: Iterable[str]) -> dict[str, Tensor]:
    """Memory-map the named tensors of a file; no page is read.

    Raises CheckpointMissing, or CorruptCheckpoint when the file is damaged or is not the one that `info` describes.
    """
    path = Path(info.path)
    try:
        before = os.stat(path)
        if info.mtime_ns and (before.st_mtime_ns, before.st_size) != (info.mtime_ns, info.size):
            raise CorruptCheckpoint(f"{path.name} was changed while it was being read.", hint="Try again.")
        with ExitStack() as stack:
            file = stack.enter_context(safe_open(str(path), framework="pt", device="cpu"))
            return {name: file.get_tensor(name) for name in names}
    except OSError as error:
        raise unreadable(path, error) from error
    except SafetensorError as error:
        raise CorruptCheckpoint(f"{path.name} cannot be read: {error}", hint="Download it again.") from error


def fill(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    names: Mapping[str, str],
    device: torch.device,
    dtype: torch.dtype,
    source: str,
) -> None:
    """Give every parameter of `model` its tensor. names: parameter name -> name in `tensors`; source: the file's name.

    Raises CorruptCheckpoint naming parameters without a tensor, tensors without a parameter, and wrong shapes.
    """
    wanted = model.state_dict()
    missing = sorted(set(wanted) - set(names))
    unknown = sorted(names[name] for name in set(names) - set(wanted))
    if missing or unknown:
        what = [f"missing: {_few(missing)}"] * bool(missing) + [f"unknown: {_few(unknown)}"] * bool(unknown)
        raise CorruptCheckpoint(f"{source} does not fit its own dimensions; {'; '.join(what)}.")
    state = {}
    for name, empty in wanted.items():
        tensor = tensors[names[name]]
        if tensor.shape != empty.shape:
            if tensor.numel() != empty.numel() or _squeezed(tensor) != _squeezed(empty):
                raise CorruptCheckpoint(
                    f"{source}: {names[name]} has the shape {list(tensor.shape)} where {list(empty.shape)} belongs."
                )
            tensor = tensor.reshape(empty.shape)  # a 1 x 1 convolution that diffusers keeps as a linear layer
        state[name] = tensor.to(device=device, dtype=dtype)
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False)
    on_meta = [name for name, value in (*model.named_parameters(), *model.named_buffers()) if value.is_meta]
    if on_meta:
        raise CorruptCheckpoint(f"{source} left {_few(on_meta)} without weights.")
    for buffer_name, buffer in list(model.named_buffers()):
        if buffer.device != device:
            owner, _, leaf = buffer_name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, buffer.to(device))


def weight_bytes(*models: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    values = (value for model in models for value in (*model.parameters(), *model.buffers()))
    return sum(value.numel() * value.element_size() for value in values)


def _squeezed(tensor: Tensor) -> list[int]:
    return [side for side in tensor.shape if side != 1]


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
