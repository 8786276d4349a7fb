"""PNG chunks without the pixels: text in, text out, nothing decoded or encoded again.

Format: the PNG specification, third edition: an 8-byte signature, then chunks of length, type, data and CRC-32. Text is
tEXt (Latin-1), zTXt (Latin-1, deflated) or iTXt (UTF-8, deflated or not).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from modules.core.errors import StorageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 16 << 20  # of all text chunks of one file, unpacked
_AFTER_HEADER = len(SIGNATURE) + 4 + 4 + 13 + 4
_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})


@dataclass(frozen=True, kw_only=True)
class PngText:
    """What a PNG says without its pixels. width, height: pixels. texts: keyword -> text, the first of each keyword."""

    width: int
    height: int
    texts: Mapping[str, str]


def chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk, ready to write."""
    return b"".join((len(data).to_bytes(4, "big"), kind, data, zlib.crc32(data, zlib.crc32(kind)).to_bytes(4, "big")))


def png_with_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """`png` with text chunks after its header; the pixels' bytes stay as they are.

    Latin-1 text becomes tEXt, any other iTXt: byte for byte what Pillow, and so AUTOMATIC1111, writes. PNG text can
    hold neither NUL nor a lone surrogate; both become U+FFFD.
    """
    if not png.startswith(SIGNATURE) or png[12:16] != b"IHDR":
        raise ValueError("not a PNG")
    chunks = (_text_chunk(keyword, text) for keyword, text in texts.items())
    return b"".join((png[:_AFTER_HEADER], *chunks, png[_AFTER_HEADER:]))


def read_png_text(source: bytes | Path) -> dict[str, str]:
    """The text chunks of a PNG, keyword -> text, wherever in the file they stand. Raises StorageError as `read_png`."""
    return dict(read_png(source).texts)


def read_png(source: bytes | Path) -> PngText:
    """Size and texts of a PNG, its pixels skipped.

    Raises StorageError: no such file, not a PNG, truncated, a damaged text chunk, or more text than MAX_TEXT_BYTES.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), "The picture")
    try:
        with source.open("rb") as file:
            return _read(file, source.name)
    except OSError as error:
        raise StorageError(f"{source.name} cannot be read: {error.strerror or error}.") from error


def _text_chunk(keyword: str, text: str) -> bytes:
    key = keyword.encode("latin-1")
    if not 1 <= len(key) <= 79 or b"\0" in key:
        raise ValueError(f"a PNG keyword has 1 to 79 characters, none of them NUL: {keyword!r}")
    text = text.replace("\0", "\ufffd")
    try:
        return chunk(b"tEXt", key + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        clean = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
        return chunk(b"iTXt", key + b"\0\0\0\0\0" + clean.encode("utf-8"))


def _read(file: BinaryIO, name: str) -> PngText:
    if file.read(8) != SIGNATURE:
        raise StorageError(f"{name} is not a PNG.")
    texts: dict[str, str] = {}
    size: tuple[int, int] | None = None
    left = MAX_TEXT_BYTES
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise StorageError(f"{name} is truncated: it ends before its last chunk.")
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND":
            _checked_data(file, kind, length, name)
            break
        if kind == b"IHDR" or kind in _TEXT:
            if length > left:
                raise StorageError(f"{name} carries more than {MAX_TEXT_BYTES >> 20} MiB of text and is not read.")
            data = _checked_data(file, kind, length, name)
            if kind == b"IHDR":
                size = (int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big"))
            else:
                keyword, text, used = _text(kind, data, left, name)
                texts.setdefault(keyword, text)
                left -= used
        else:
            file.seek(length + 4, io.SEEK_CUR)
    if size is None or 0 in size:
        raise StorageError(f"{name} is not a PNG: it has no header.")
    return PngText(width=size[0], height=size[1], texts=texts)


def _checked_data(file: BinaryIO, kind: bytes, length: int, name: str) -> bytes:
    data, stored = file.read(length), file.read(4)
    if len(data) < length or len(stored) < 4:
        raise StorageError(f"{name} is truncated: it ends inside a {kind.decode('ascii')} chunk.")
    if zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(stored, "big"):
        raise StorageError(f"{name} is damaged: the checksum of a {kind.decode('ascii')} chunk is wrong.")
    return data


def _text(kind: bytes, data: bytes, limit: int, name: str) -> tuple[str, str, int]:
    """Keyword, text, and the bytes it took unpacked."""
    key, found, rest = data.partition(b"\0")
    broken = StorageError(f"{name} is damaged: a {kind.decode('ascii')} chunk is not readable.")
    if not found:
        raise broken
    keyword = key.decode("latin-1")
    if kind == b"tEXt":
        return keyword, rest.decode("latin-1"), len(rest)
    if kind == b"zTXt":
        text = _inflated(rest[1:], limit, name)
        return keyword, text.decode("latin-1"), len(text)
    parts = rest[2:].split(b"\0", 2)
    if len(rest) < 2 or len(parts) < 3:
        raise broken
    text = _inflated(parts[2], limit, name) if rest[0] else parts[2]
    return keyword, text.decode("utf-8", errors="replace"), len(text)


def _inflated(data: bytes, limit: int, name: str) -> bytes:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data, limit + 1)
    except zlib.error as error:
        raise StorageError(f"{name} is damaged: a text chunk cannot be unpacked ({error}).") from error
    if len(text) > limit:
        raise StorageError(f"{name} carries more than {MAX_TEXT_BYTES >> 20} MiB of text and is not read.")
    return text
