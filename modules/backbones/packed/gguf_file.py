"""Where the tensors of a GGUF file begin.

Format, little-endian: "GGUF", version (32 bits), number of tensors and of key/value pairs (64 bits each), the pairs,
each tensor's name, dimensions, type and offset, and, at the next multiple of `general.alignment` (32 unless given),
the data. Source: the GGUF specification, versions 2 and 3.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from modules.core.errors import CorruptCheckpoint, NotAMatch

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value, by its type's number
TEXT, ARRAY, WIDE = 8, 9, 4
ALIGNMENT = b"general.alignment"


def data_start(path: Path) -> int:
    """Bytes from the start of the file to its data. Raises NotAMatch, CorruptCheckpoint or OSError."""
    if path.stat().st_size == 0:  # which cannot be mapped
        raise CorruptCheckpoint(f"{path.name} is empty.", hint="Download it again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        if whole[:4] != b"GGUF":
            raise NotAMatch(f"{path.name} is not a GGUF file.")
        try:
            return _data_start(_Walk(whole))
        except (struct.error, KeyError, IndexError, OverflowError, RecursionError) as error:
            raise CorruptCheckpoint(
                f"{path.name} ends inside its header, or it is damaged.", hint="Download it again."
            ) from error


class _Walk:
    """A place in the header that moves on."""

    def __init__(self, whole: mmap.mmap) -> None:
        self.whole, self.place = whole, 4

    def number(self, code: str) -> int:
        """The number here: "I" of 32 bits, "Q" of 64."""
        number: int = struct.unpack_from(f"<{code}", self.whole, self.place)[0]
        self.place += struct.calcsize(code)
        return number

    def text(self) -> bytes:
        """The text here."""
        length = self.number("Q")
        self.place += length
        if self.place > len(self.whole):
            raise IndexError("a text that goes on behind the end")
        return self.whole[self.place - length : self.place]

    def value(self, kind: int) -> None:
        """Go over a value."""
        if kind == TEXT:
            self.text()
        elif kind == ARRAY:
            each, count = self.number("I"), self.number("Q")
            if each in SIZES:
                self.place += SIZES[each] * count
            else:
                for _ in range(count):
                    self.value(each)
        else:
            self.place += SIZES[kind]


def _data_start(walk: _Walk) -> int:
    walk.number("I")
    tensors, pairs = walk.number("Q"), walk.number("Q")
    alignment = 32
    for _ in range(pairs):
        key, kind = walk.text(), walk.number("I")
        if key == ALIGNMENT and kind == WIDE:
            alignment = max(walk.number("I"), 1)
        else:
            walk.value(kind)
    for _ in range(tensors):
        walk.text()
        sides = walk.number("I")
        walk.place += 8 * sides + 4 + 8  # the sides, type, offset
    return -(-walk.place // alignment) * alignment
