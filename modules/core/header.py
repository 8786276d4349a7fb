"""A model file's header: which tensors it holds, without reading them. The safetensors format, and errors of all.

Format: 8 bytes little-endian header length, that many bytes of JSON (tensor name -> dtype, shape, data_offsets, and
`__metadata__`, text to text), then the tensors' bytes. Source: the safetensors format description.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modules.core.errors import (
    CheckpointError,
    CheckpointMissing,
    CorruptCheckpoint,
    NotAMatch,
    OutOfMemory,
    UnsafeCheckpoint,
)

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
MODEL_INDEX = "model_index.json"  # marks a folder in diffusers' layout
MODEL_INDEXES = (MODEL_INDEX, "modular_model_index.json")  # the second, of diffusers' modular pipelines, where alone
PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin"})
DTYPE_BYTES: Mapping[str, float] = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file. dtype: safetensors name ("F16"), or a GGUF type ("Q4_K"), whose `shape` is that of the
    values, rows first. offsets: bytes from the end of the header (GGUF: from the start of the data).

    file: path of the file that holds it where that is not the header's own (a part of a folder, a shard); name: what
    it is called there, "" for the name under which the header lists it.
    """

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]
    file: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Header:
    """A safetensors header. size: bytes of the whole file; mtime: its modification time, nanoseconds.

    Of a folder in diffusers' layout: path is its model_index.json, tensors are those of all its files, each name
    prefixed by its component ("unet.conv_in.weight"), size is of all files and mtime that of the newest. configs:
    component -> its config.json; "model_index" -> the model_index.json. Empty for a single file.
    """

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size: int
    mtime_ns: int
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The file's name with its extension, or the folder's."""
        return self.path.parent.name if self.path.name in MODEL_INDEXES else self.path.name

    @property
    def stem(self) -> str:
        """The file's name without its extension, or the folder's."""
        return self.path.parent.name if self.path.name in MODEL_INDEXES else self.path.stem

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of tensor `name`, or None where the file has no such tensor."""
        info = self.tensors.get(name)
        return info.shape if info else None


def read_safetensors(path: Path) -> Header:
    """Read and check a safetensors header; no tensor byte is read.

    Raises CheckpointMissing, UnsafeCheckpoint (a pickle by name or content), NotAMatch (another format) or
    CorruptCheckpoint (truncated, or a header that does not describe the file), and what `unreadable` makes of the rest.
    """
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            start = file.read(8)
            length = int.from_bytes(start, "little")
            opening = file.read(1)
            _refuse_foreign(path, start + opening, length, stat.st_size)
            raw = opening + file.read(length - 1)
    except FileNotFoundError:
        raise CheckpointMissing(f"{path.name}: there is no such file.") from None
    except OSError as error:
        raise unreadable(path, error) from error
    if len(raw) < length:
        raise CorruptCheckpoint(f"{path.name} ends inside its header: it is truncated.", hint="Download it again.")
    tensors, metadata = _parse(path, raw)
    end = 8 + length + max((info.offsets[1] for info in tensors.values()), default=0)
    if end > stat.st_size:
        raise CorruptCheckpoint(
            f"{path.name} is truncated: {stat.st_size:,} of {end:,} bytes are there.", hint="Download it again."
        )
    return Header(path=path, tensors=tensors, metadata=metadata, size=stat.st_size, mtime_ns=stat.st_mtime_ns)


def unreadable(path: Path, error: OSError) -> CheckpointError | OutOfMemory:
    """What an error of the system means for a model file, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        return CheckpointMissing(f"{path.name}: there is no such file.")
    if path.is_dir():  # Windows calls it a missing permission
        return NotAMatch(f"{path.name} is a folder, not a safetensors file.")
    if isinstance(error, PermissionError):
        return CheckpointError(
            f"{path.name} may not be read by this program.",
            hint="Allow it in the file's permissions, or close the program that holds the file.",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return CheckpointError(
            f"{path.name} cannot be opened: too many files are open.",
            hint="Close other programs, or raise the system's limit of open files (ulimit -n).",
        )
    if error.errno == errno.ENOMEM:
        return OutOfMemory(f"There is too little free memory to open {path.name}.", hint="Close other programs.")
    return CheckpointError(
        f"{path.name} cannot be read: {error.strerror or error}.", hint="Is its disk still connected and sound?"
    )


def _refuse_foreign(path: Path, start: bytes, length: int, size: int) -> None:
    # A header's length may well begin with a pickle's or zip's first bytes (6016 does): its brace tells them apart
    pickled = start[8:9] != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80")
    if pickled or path.suffix.lower() in PICKLES:
        raise UnsafeCheckpoint(
            f"{path.name} is a pickle, and loading a pickle can run any code that is hidden in it.",
            hint=f'Convert it once with "python webui.py convert {path.name}" and use the .safetensors file.',
        )
    if len(start) < 8 or size == 0:
        what = f"is only {size} bytes long" if size else "is empty"
        raise CorruptCheckpoint(f"{path.name} {what}.", hint="Download it again.")
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):  # a header's length ends in zeros
        raise NotAMatch(
            f"{path.name} is not a safetensors file but text, perhaps a web page saved in its place.",
            hint="Download it again; some sites send it only to those who are logged in.",
        )
    if length > MAX_HEADER_BYTES or length < 2:
        raise NotAMatch(
            f"{path.name} is not a safetensors file, whatever its name says.", hint="Download it again, or elsewhere."
        )


def _parse(path: Path, raw: bytes) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    try:
        entries = json.loads(raw)
        metadata = {str(k): str(v) for k, v in entries.pop("__metadata__", {}).items()}
        tensors = {
            name: TensorInfo(
                entry["dtype"], tuple(entry["shape"]), (entry["data_offsets"][0], entry["data_offsets"][1])
            )
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise NotAMatch(f"{path.name} is not a safetensors file: its header is not readable.") from None
    for name, info in tensors.items():
        begin, end = info.offsets
        expected = DTYPE_BYTES.get(info.dtype, 0)
        for side in info.shape:
            expected *= side
        if begin > end or (info.dtype in DTYPE_BYTES and end - begin != expected):
            raise CorruptCheckpoint(f"{path.name}: tensor {name} does not match its shape.", hint="Download it again.")
    return tensors, metadata
