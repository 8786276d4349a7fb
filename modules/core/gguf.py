"""The header of a GGUF file.

Format, little-endian: "GGUF", version (32 bits), numbers of tensors and of key/value pairs (64 bits each), the pairs,
the tensors (name, sides from the innermost out, type, offset), and at the next multiple of `general.alignment` the
data.
Source: the GGUF specification, versions 2 and 3; block sizes: the types' definitions in ggml.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO

from modules.core.errors import CheckpointMissing, CorruptCheckpoint, NotAMatch, UnsupportedCheckpoint
from modules.core.header import MAX_HEADER_BYTES, Header, TensorInfo, unreadable

# Number -> name, values in a block, bytes of a block
TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1),
    25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
_UNREAD = frozenset({4, 5, 31, 32, 33, 36, 37, 38, *range(40, 64)})  # numbers that ggml gave up, and its next ones
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_MOST_SIDES, _LONGEST_NAME = 8, 4096
_KEPT = 64  # numbers of an array that are kept; vocabularies are gone over
_SHAPE_KEY = "comfy.gguf.orig_shape."  # ComfyUI-GGUF flattens what has too many sides and writes the shape here

Value = str | int | float | bool | list[int | float | bool] | None


def read_gguf(path: Path) -> Header:
    """Read and check a GGUF header; no tensor byte is read. Metadata: the keys whose values are texts or numbers.

    Raises CheckpointMissing, NotAMatch (another format), UnsupportedCheckpoint (a type of tensors that is not read) or
    CorruptCheckpoint, and what `unreadable` makes of the rest.
    """
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if file.read(4) != b"GGUF":
                raise NotAMatch(f"{path.name} is not a GGUF file.", hint="Accepted: .safetensors and .gguf models.")
            metadata, tensors, start = _parse(_Walk(file, min(stat.st_size, MAX_HEADER_BYTES)))
    except FileNotFoundError:
        raise CheckpointMissing(f"{path.name}: there is no such file.") from None
    except OSError as error:
        raise unreadable(path, error) from error
    except _Unread as error:
        raise UnsupportedCheckpoint(
            f"{path.name} has tensors of a type of GGUF ({error}) that is not read here.",
            hint="Take another packing of it, such as Q8_0 or Q4_K_S.",
        ) from None
    except _Damaged as error:
        raise CorruptCheckpoint(f"{path.name} has a damaged header: {error}.", hint="Download it again.") from None
    end = start + max((info.offsets[1] for info in tensors.values()), default=0)
    if end > stat.st_size:
        raise CorruptCheckpoint(
            f"{path.name} is truncated: {stat.st_size:,} of {end:,} bytes are there.", hint="Download it again."
        )
    return Header(path=path, tensors=tensors, metadata=metadata, size=stat.st_size, mtime_ns=stat.st_mtime_ns)


class _Damaged(Exception):
    """The header ends too early, or says what cannot be."""


class _Unread(Exception):
    """A tensor has a type that ggml gave up, or one that came later than this program."""


class _Walk:
    """Reads one value after the other. last: the byte behind which no header goes."""

    def __init__(self, file: BinaryIO, last: int) -> None:
        self._file, self._last = file, last
        self.place = 4

    def bytes(self, count: int) -> bytes:
        if self.place + count > self._last:
            raise _Damaged("it goes on behind the end of the file")
        data = self._file.read(count)
        if len(data) < count:
            raise _Damaged("it ends too early")
        self.place += count
        return data

    def skip(self, count: int) -> None:
        if self.place + count > self._last:
            raise _Damaged("it goes on behind the end of the file")
        self._file.seek(count, os.SEEK_CUR)
        self.place += count

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.bytes(struct.calcsize(code)))[0])

    def text(self) -> str:
        return self.bytes(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Value:
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _CODES:
            raise _Damaged(f"there is no type {kind} of values")
        code = _CODES[kind]
        found: Value = struct.unpack(f"<{code}", self.bytes(struct.calcsize(code)))[0]
        return found

    def _array(self) -> Value:
        """Numbers where they are few; of all else nothing is kept."""
        kind, count = self.number("I"), self.number("Q")
        if kind in _CODES:
            size = struct.calcsize(_CODES[kind])
            if count > _KEPT:
                self.skip(size * count)
                return None
            return list(struct.unpack(f"<{count}{_CODES[kind]}", self.bytes(size * count)))
        if kind != _TEXT:
            raise _Damaged(f"an array has values of type {kind}")
        for _ in range(count):
            self.skip(self.number("Q"))
        return None


def _parse(walk: _Walk) -> tuple[dict[str, str], dict[str, TensorInfo], int]:
    """Metadata, tensors, and where the data starts."""
    version = walk.number("I")
    if version not in (2, 3):
        raise _Damaged(f"its version is {version}, and 2 and 3 can be read")
    count, pairs = walk.number("Q"), walk.number("Q")
    metadata: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    alignment = 32
    for _ in range(pairs):
        key = walk.text()
        value = walk.value(walk.number("I"))
        if key == "general.alignment" and isinstance(value, int) and value > 0:
            alignment = value
        if key.startswith(_SHAPE_KEY) and isinstance(value, list):
            shapes[key.removeprefix(_SHAPE_KEY)] = tuple(int(side) for side in value)
        elif isinstance(value, str | int | float):
            metadata[key] = str(value)
    tensors = dict(_tensor(walk, shapes) for _ in range(count))
    return metadata, tensors, -(-walk.place // alignment) * alignment


def _tensor(walk: _Walk, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, TensorInfo]:
    name, sides = walk.text(), walk.number("I")
    if sides > _MOST_SIDES or len(name) > _LONGEST_NAME:
        raise _Damaged(f"a tensor has {sides} sides")
    shape = tuple(walk.number("Q") for _ in range(sides))[::-1]
    kind, offset = walk.number("I"), walk.number("Q")
    if kind in _UNREAD:
        raise _Unread(kind)
    if kind not in TYPES:
        raise _Damaged(f"there is no type {kind} of tensors (of {name})")
    label, block, size = TYPES[kind]
    if prod(shape) % block:
        raise _Damaged(f"{name} is no whole number of blocks of {block}")
    told = shapes.get(name, shape)
    end = offset + prod(shape) // block * size
    return name, TensorInfo(label, told if prod(told) == prod(shape) else shape, (offset, end))
