"""Frames between the server and a worker: a JSON header and raw bytes, never a pickle.

    magic "INF1" | header length, 4 bytes | payload length, 8 bytes | header (JSON, UTF-8) | payload

Lengths are unsigned, little-endian. The same over a pipe, a socket or a file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Protocol

PREFIX = struct.Struct("<4sIQ")
MAGIC = b"INF1"
MAX_HEADER = 64 * 2**20  # bytes: a plan with two longest prompts is under 1 MiB
MAX_PAYLOAD = 2**32  # bytes


class FrameError(Exception):
    """The stream does not carry frames: something else wrote to it, or it ended inside one."""


class Source(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


class Sink(Protocol):
    def write(self, data: bytes | memoryview, /) -> int | None: ...
    def flush(self) -> None: ...


def write_frame(sink: Sink, header: Mapping[str, Any], payload: bytes = b"") -> None:
    """Write one frame, whole. Raises OSError (BrokenPipeError where nobody reads any more)."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if len(text) > MAX_HEADER or len(payload) > MAX_PAYLOAD:
        raise FrameError(f"A frame of {len(text):,} + {len(payload):,} bytes is too large.")
    _write(sink, PREFIX.pack(MAGIC, len(text), len(payload)) + text)
    if payload:
        _write(sink, payload)
    sink.flush()


def read_frame(source: Source) -> tuple[dict[str, Any], bytes] | None:
    """Read one frame: header and payload; None at an orderly end of the stream.

    Raises FrameError where the stream ends inside a frame or holds something else.
    """
    prefix = _read(source, PREFIX.size)
    if not prefix:
        return None
    if len(prefix) < PREFIX.size:
        raise FrameError("The stream ends inside a frame's prefix.")
    magic, header_size, payload_size = PREFIX.unpack(prefix)
    if magic != MAGIC or header_size > MAX_HEADER or payload_size > MAX_PAYLOAD:
        raise FrameError(f"The stream holds no frame: it goes on with {prefix!r}.")
    text = _read(source, header_size)
    payload = _read(source, payload_size)
    if len(text) < header_size or len(payload) < payload_size:
        raise FrameError("The stream ends inside a frame.")
    try:
        header = json.loads(text.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise FrameError(f"A frame's header is not JSON: {error}.") from error
    if not isinstance(header, dict):
        raise FrameError("A frame's header is not a JSON object.")
    return header, payload


def _read(source: Source, size: int) -> bytes:
    """Exactly `size` bytes, or fewer where the stream ends; a raw pipe may give them in pieces."""
    parts, missing = [], size
    while missing:
        part = source.read(min(missing, 2**24))
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(sink: Sink, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        written = sink.write(rest)
        rest = rest[len(rest) if written is None else written :]
