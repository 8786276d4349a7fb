"""From a header to tensors: memory-mapped, packed ones as they are packed, wherever in a folder they lie."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from modules.backbones.packed import bitsandbytes, fp8, gguf
from modules.backbones.packed.gguf_file import data_start
from modules.backbones.packed.values import Packed
from modules.core.checkpoint import Header, ModelInfo, Source, TensorInfo, read_header, unreadable
from modules.core.errors import CorruptCheckpoint, UnsupportedCheckpoint

SCALES = ("scale_weight", "weight_scale", "weight_scale_inv")  # in the place of "weight"
FORMATS = ("float8_e4m3fn", "float8_e5m2")  # of ComfyUI's `comfy_quant` texts, those that are fp8 with one scale


def read_described(info: ModelInfo) -> Header:
    """The header of the file or folder that `info` describes.

    Raises what `read_header` does, and CorruptCheckpoint where the file is no longer the one that was described.
    """
    header = read_header(Path(info.path))
    if info.mtime_ns and (header.mtime_ns, header.size) != (info.mtime_ns, info.size):
        raise _changed(header.path)
    return header


def map_tensors(described: ModelInfo | Header, sources: Iterable[str | Source]) -> dict[str, Tensor | Packed]:
    """Memory-map tensors of a file, or of the files of a folder; no page of weights is read.

    sources: the values of a name table; the answer has each tensor whole, under its name in the header, for `fill` to
    cut. Packed tensors come as `Packed`, with the scales and tables that the file keeps beside them (their descriptions
    and single scales are read). Of a ModelInfo the header is read again: give the header where there is one.

    Raises CheckpointMissing; UnsupportedCheckpoint for a packing that is not known; CorruptCheckpoint when a file is
    damaged, lacks a tensor, or is not the one that `described` describes.
    """
    header = read_described(described) if isinstance(described, ModelInfo) else described
    names = {source.name if isinstance(source, Source) else source for source in sources}
    if absent := sorted(names - header.tensors.keys()):
        raise CorruptCheckpoint(f"{header.path.name} has no tensor {absent[0]} (of {len(absent)} that it lacks).")
    with ExitStack() as stack:
        files = _Files(header, stack)
        return {name: _tensor(files, name) for name in sorted(names)}


@dataclass(frozen=True)
class _Files:
    """The open files behind a header."""

    header: Header
    stack: ExitStack
    open: dict[str, Any] = field(default_factory=dict)  # path -> safetensors' handle, or all of a GGUF's data

    def read(self, name: str) -> Tensor:
        """Tensor `name` as safetensors has it; of a GGUF, its bytes."""
        info = self.header.tensors[name]
        path = Path(info.file) if info.file else self.header.path
        try:
            if str(path) not in self.open:
                self._check(path)
                mapped = _map_gguf(path) if _is_gguf(path) else self._safetensors(path)
                self.open[str(path)] = mapped
            handle = self.open[str(path)]
            if not isinstance(handle, Tensor):
                tensor: Tensor = handle.get_tensor(info.name or name)
                return tensor
        except OSError as error:
            raise unreadable(path, error) from error
        except SafetensorError as error:
            raise CorruptCheckpoint(f"{path.name} cannot be read: {error}", hint="Download it again.") from error
        begin, end = info.offsets
        if end > len(handle):
            raise CorruptCheckpoint(f"{path.name} is truncated: tensor {name} lies behind its end.")
        return handle[begin:end]

    def _safetensors(self, path: Path) -> Any:
        return self.stack.enter_context(safe_open(str(path), framework="pt", device="cpu"))

    def _check(self, path: Path) -> None:
        """Raise CorruptCheckpoint where a file changed after its header was read."""
        stat, header = path.stat(), self.header
        alone = path == header.path and (stat.st_mtime_ns, stat.st_size) != (header.mtime_ns, header.size)
        if header.mtime_ns and (alone or stat.st_mtime_ns > header.mtime_ns):
            raise _changed(path)


def _map_gguf(path: Path) -> Tensor:
    """The data of a GGUF file, (bytes,) uint8, mapped."""
    start, size = data_start(path), os.stat(path).st_size
    whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    return whole[start:]


def _tensor(files: _Files, name: str) -> Tensor | Packed:
    """One tensor with what belongs to it."""
    header = files.header
    info, path = header.tensors[name], header.path.name
    tensor = files.read(name)
    try:
        if _is_gguf(Path(info.file) if info.file else header.path):
            return _of_gguf(tensor, info)
        if f"{name}.absmax" in header.tensors:
            return _four_bit(files, name, tensor)
        if tensor.dtype in fp8.STORED and tensor.dim():
            return _fp8(files, name, tensor)
    except ValueError as error:
        raise CorruptCheckpoint(f"{path}: {name} is damaged: {error}.", hint="Download it again.") from error
    if tensor.dtype in (torch.uint8, torch.int8) or tensor.dtype in fp8.STORED:
        raise UnsupportedCheckpoint(
            f"{path}: {name} is packed as {info.dtype} in a way that is not known.",
            hint="Packed weights may be fp8 (plain or scaled), bitsandbytes' NF4 and FP4, or GGUF.",
        )
    return tensor


def _of_gguf(data: Tensor, info: TensorInfo) -> Tensor | Packed:
    if info.dtype in gguf.PLAIN:
        dtype = gguf.PLAIN[info.dtype]
        aligned = data if data.storage_offset() % dtype.itemsize == 0 else data.clone()
        return aligned.view(dtype).reshape(info.shape)
    if info.dtype not in gguf.TYPES:
        raise UnsupportedCheckpoint(
            f"A tensor is packed as {info.dtype}, which is not supported.",
            hint=f"Supported: {', '.join((*gguf.PLAIN, *gguf.TYPES))}.",
        )
    return gguf.blocks(data, info.dtype, info.shape)


def _four_bit(files: _Files, name: str, values: Tensor) -> Packed:
    tensors = files.header.tensors
    state = next((f"{name}.{state}" for state in bitsandbytes.STATES if f"{name}.{state}" in tensors), None)
    sides = {side: files.read(f"{name}.{side}") for side in bitsandbytes.SIDES if f"{name}.{side}" in tensors}
    absent = {"absmax", "quant_map"} - sides.keys()
    if state is None or absent or ("nested_absmax" in sides) != ("nested_quant_map" in sides):
        raise ValueError("its scales, table or description are not there")
    return bitsandbytes.four_bit(values, sides, bytes(files.read(state).tolist()))


def _fp8(files: _Files, name: str, values: Tensor) -> Packed:
    tensors = files.header.tensors
    stem, _, leaf = name.rpartition(".")
    layer = f"{stem}." if stem else ""
    if leaf != "weight":
        return fp8.plain(values)
    _check_format(files, f"{layer}comfy_quant")
    scale = next((f"{layer}{each}" for each in SCALES if f"{layer}{each}" in tensors), None)
    return fp8.plain(values) if scale is None else fp8.scaled(values, files.read(scale))


def _check_format(files: _Files, name: str) -> None:
    """Raise UnsupportedCheckpoint where ComfyUI's description of a layer says that it is packed in another way."""
    if name not in files.header.tensors:
        return
    text = bytes(files.read(name).reshape(-1).view(torch.uint8).tolist())
    if not any(f'"{known}"'.encode() in text for known in FORMATS):
        raise UnsupportedCheckpoint(
            f"{files.header.path.name}: {name} says {text[:100].decode(errors='replace')}, which is not supported.",
            hint=f"Supported: {', '.join(FORMATS)}.",
        )


def _is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf"


def _changed(path: Path) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"{path.name} was changed while it was being read.", hint="Try again.")
