from __future__ import annotations

import io
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.executors.frames import MAGIC, PREFIX, FrameError, read_frame, write_frame

TEXT = st.text(st.characters(exclude_categories=[]), max_size=40)


class Dripping(io.RawIOBase):
    """A pipe that gives a few bytes at a time, as pipes may."""

    def __init__(self, data: bytes, portion: int) -> None:
        self._data = data
        self._portion = portion

    def read(self, size: int = -1, /) -> bytes:
        taken, self._data = self._data[: min(size, self._portion)], self._data[min(size, self._portion) :]
        return taken


class Narrow(io.BytesIO):
    """Takes a few bytes at a time."""

    def write(self, data: object, /) -> int:
        return super().write(bytes(data)[:7])  # type: ignore[call-overload]


@given(
    st.lists(st.tuples(st.dictionaries(TEXT, TEXT, max_size=3), st.binary(max_size=200)), max_size=4), st.integers(1, 9)
)
def test_frames_come_out_as_they_went_in_however_the_pipe_cuts_them(
    frames: list[tuple[dict[str, str], bytes]], portion: int
) -> None:
    sink = Narrow()
    for header, payload in frames:
        write_frame(sink, header, payload)
    source = Dripping(sink.getvalue(), portion)
    assert [read_frame(source) for _ in frames] == frames
    assert read_frame(source) is None


def test_a_payload_larger_than_any_pipe() -> None:
    reading, writing = os.pipe()
    payload = os.urandom(1000) * 20_000
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb") as sink:
        writer = threading.Thread(target=write_frame, args=(sink, {"kind": "event"}, payload))
        writer.start()
        frame = read_frame(source)
        writer.join()
    assert frame == ({"kind": "event"}, payload)


@pytest.mark.parametrize(
    "data",
    [
        b"hello, I am a print statement\n",
        MAGIC,
        PREFIX.pack(MAGIC, 10, 0) + b"{}",
        PREFIX.pack(MAGIC, 2, 5) + b"{}abc",
        PREFIX.pack(MAGIC, 2, 0) + b"{]",
        PREFIX.pack(MAGIC, 2, 0) + b"[]",
        PREFIX.pack(MAGIC, 2**31, 0),
        PREFIX.pack(MAGIC, 2, 2**63) + b"{}",
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(data))
