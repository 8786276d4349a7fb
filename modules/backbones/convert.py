"""Pickled checkpoints to safetensors, without running what a pickle may hide.

`torch.load(weights_only=True)` rebuilds tensors and plain containers and refuses everything else.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from modules.core.checkpoint import PICKLES, Header, TensorInfo
from modules.core.errors import CheckpointMissing, CorruptCheckpoint, NotAMatch, StorageError, UnsafeCheckpoint
from modules.core.held import patiently

_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
_WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "model")


def convert_pickle(source: Path, target: Path, *, known: Callable[[Header], bool] = lambda header: True) -> Path:
    """Write the tensors of a .ckpt, .pt, .pth or .bin file as safetensors; returns `target`.

    Names, shapes and dtypes stay; a nested `state_dict` is flattened; what is no tensor is left out. The file appears
    whole or not at all, and an existing one is never replaced. known: whether a file with this header would be of use.
    Raises UnsafeCheckpoint (it asks for code to run),
    CorruptCheckpoint, NotAMatch (no tensors in it, or not known), CheckpointMissing or StorageError.
    """
    if target.exists():
        raise StorageError(f"{target.name} is there already.", hint="Move it away or choose another name.")
    tensors = dict(_tensors(_read(source)))
    if not tensors:
        raise NotAMatch(f"{source.name} holds no tensors: it is no model.")
    if not known(_header(tensors, target)):
        raise NotAMatch(
            f"{source.name} was not converted: its tensors are those of no model that is known here.",
            hint="Checkpoints, VAEs, text encoders, LoRAs and ControlNets are known.",
        )
    _write(_unshared(tensors), target, {"format": "pt", "converted_from": source.name, "sha256": _digest(source)})
    return target


def _read(source: Path) -> Any:
    if not source.is_file():
        raise CheckpointMissing(f"{source.name}: there is no such file.")
    if source.suffix.lower() not in PICKLES:
        raise NotAMatch(f"{source.name} is not a pickled checkpoint.", hint=f"Accepted: {', '.join(sorted(PICKLES))}.")
    try:
        with warnings.catch_warnings():
            # torch warns about pickle protocols that it then reads, or refuses by an error of its own
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(source, map_location="cpu", weights_only=True, mmap=_is_zip(source))
    except pickle.UnpicklingError as error:
        reason = next(
            (line.strip() for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line), ""
        )
        if not reason:
            raise CorruptCheckpoint(f"{source.name} is truncated or damaged.", hint="Download it again.") from error
        raise UnsafeCheckpoint(
            f"{source.name} was not converted: it asks for more than tensors, which could run code. ({reason})",
            hint="Do not use this file; look for a .safetensors version.",
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, IndexError, TypeError) as error:
        raise CorruptCheckpoint(f"{source.name} is truncated or damaged.", hint="Download it again.") from error


def _is_zip(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _tensors(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Name -> tensor, out of a state dict or what wraps one."""
    if isinstance(value, Mapping):
        for wrapper in _WRAPPERS:
            inner = value.get(wrapper)
            if isinstance(inner, Mapping) and any(isinstance(part, Tensor) for part in inner.values()):
                value = inner
                break
        yield from _flat(value, "")


def _flat(values: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for key, value in values.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value.detach()
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")


def _header(tensors: Mapping[str, Tensor], target: Path) -> Header:
    """What the header of the new file would say."""
    infos, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        infos[name] = TensorInfo(_DTYPES.get(tensor.dtype, "F32"), tuple(tensor.shape), (begin, end))
    return Header(path=target, tensors=infos, metadata={}, size=end, mtime_ns=0)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors, each with memory of its own: safetensors stores no aliases."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        whole = tensor.to_dense() if tensor.is_sparse else tensor
        begin = whole.untyped_storage().data_ptr()  # not its first element: parts of one memory may overlap
        alone = whole.is_contiguous() and begin not in seen
        result[name] = whole if alone else whole.clone(memory_format=torch.contiguous_format)
        seen.add(begin)
    return result


def _write(tensors: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> None:
    part = target.with_name(f".{target.stem}-{secrets.token_hex(4)}.part")
    try:
        save_file(dict(tensors), part, metadata=dict(metadata))
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        patiently(lambda: part.replace(target))  # scanned for viruses now, which takes a while
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{target.name} could not be written: {error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
