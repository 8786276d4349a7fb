"""AVIF files without their metadata: the boxes stay where they are, for everything else is found by its place.

Format: ISO/IEC 14496-12 (boxes, iinf, iloc) and 23008-12 (Exif and XMP as items). A metadata item's bytes become zero,
and its type "free", which readers pass over.
"""

from __future__ import annotations

from collections.abc import Iterator

from modules.core.errors import StorageError

_TOLD = frozenset({b"Exif", b"mime", b"uri "})  # item types: EXIF, XMP and other text, text by its address


class _Reader:
    """Numbers out of bytes, one after another. Raises StorageError past the end."""

    def __init__(self, data: bytearray, start: int, end: int) -> None:
        self._data, self.place, self.end = data, start, end

    def take(self, size: int) -> bytes:
        if self.place + size > self.end:
            raise StorageError("The picture is damaged: a box of it is shorter than it says.")
        self.place += size
        return bytes(self._data[self.place - size : self.place])

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")


def without_metadata(data: bytes) -> bytes:
    """The same picture, EXIF and XMP blanked out. Raises StorageError where the file's boxes are damaged."""
    clean = bytearray(data)
    for kind, start, end in _boxes(clean, 0, len(clean)):
        if kind == b"meta":
            _blank_items(clean, start + 4, end)
        elif kind == b"uuid":
            clean[start - 4 : end] = b"free" + bytes(end - start)
    return bytes(clean)


def _boxes(data: bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, beginning of the contents and end of each box."""
    while start + 8 <= end:
        size, kind, head = int.from_bytes(data[start : start + 4], "big"), bytes(data[start + 4 : start + 8]), 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        size = size or end - start  # 0: to the end of the file
        if size < head or start + size > end:
            raise StorageError("The picture is damaged: a box of it is longer than the file.")
        yield kind, start + head, start + size
        start += size


def _blank_items(data: bytearray, start: int, end: int) -> None:
    boxes = {kind: (begin, stop) for kind, begin, stop in _boxes(data, start, end)}
    if b"iinf" not in boxes or b"iloc" not in boxes:
        return
    told = _retype(data, *boxes[b"iinf"])
    inside = boxes.get(b"idat", (0, 0))[0]
    for item, begin, length in list(_extents(_Reader(data, *boxes[b"iloc"]), inside)):
        if item in told:
            if begin + length > len(data):
                raise StorageError("The picture is damaged: its metadata lies outside of the file.")
            data[begin : begin + length] = bytes(length)


def _retype(data: bytearray, start: int, end: int) -> set[int]:
    """Gives metadata items another type; returns their ids."""
    told = set()
    entries = start + (6 if data[start] == 0 else 8)
    for kind, begin, stop in _boxes(data, entries, end):
        version = data[begin]
        if kind != b"infe" or version < 2:
            continue
        reader = _Reader(data, begin + 4, stop)
        item = reader.number(2 if version == 2 else 4)
        reader.take(2)
        if reader.take(4) in _TOLD:
            data[reader.place - 4 : reader.place] = b"free"
            told.add(item)
    return told


def _extents(reader: _Reader, inside: int) -> Iterator[tuple[int, int, int]]:
    """Item id, place in the file and length of every piece. inside: where the contents of idat begin."""
    version = reader.number(1)
    reader.take(3)
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    for _ in range(reader.number(wide)):
        item = reader.number(wide)
        method = reader.number(2) & 15 if version else 0
        reader.take(2)
        base = reader.number(base_size) + (inside if method == 1 else 0)
        for _ in range(reader.number(2)):
            reader.take(index_size if version else 0)
            begin, length = base + reader.number(offset_size), reader.number(length_size)
            if method < 2:
                yield item, begin, length
