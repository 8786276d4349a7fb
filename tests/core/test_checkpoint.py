"""Safetensors headers: the real writer's files are read, and every kind of broken file is told apart."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modules.core.checkpoint import ModelInfo, read_header, unreadable
from modules.core.errors import (
    CheckpointError,
    CheckpointMissing,
    CorruptCheckpoint,
    NotAMatch,
    OutOfMemory,
    UnsafeCheckpoint,
)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.safetensors"
    save_file({"a.weight": torch.zeros(2, 3, dtype=torch.float16), "b": torch.ones(4)}, path, {"format": "pt"})
    return path


def test_the_header_of_the_reference_writer_is_read(good: Path) -> None:
    header = read_header(good)
    assert header.shape("a.weight") == (2, 3)
    assert header.tensors["a.weight"].dtype == "F16"
    assert header.metadata == {"format": "pt"}
    assert header.size == good.stat().st_size
    assert header.shape("c") is None


def test_a_missing_file() -> None:
    with pytest.raises(CheckpointMissing, match=r"nothing\.safetensors"):
        read_header(Path("nothing.safetensors"))


@pytest.mark.parametrize("keep", [0, 4, 20, -1])
def test_a_truncated_file_is_corrupt(good: Path, keep: int) -> None:
    whole = good.read_bytes()
    good.write_bytes(whole[:keep])
    with pytest.raises(CorruptCheckpoint, match=r"good\.safetensors"):
        read_header(good)


def test_another_format_is_not_a_match(good: Path) -> None:
    good.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(NotAMatch, match="not a safetensors file"):
        read_header(good)


@pytest.mark.parametrize("text", ["this is just text", "<html>\n<head>", "\n\n<!doctype html>"])
def test_text_in_place_of_a_model_is_named_as_such(good: Path, text: str) -> None:
    good.write_text(text)
    with pytest.raises(NotAMatch, match="not a safetensors file but text"):
        read_header(good)


def test_a_header_that_is_no_json_is_not_a_match(good: Path) -> None:
    good.write_bytes((20).to_bytes(8, "little") + b"\xff" * 40)
    with pytest.raises(NotAMatch, match="header"):
        read_header(good)


def test_a_tensor_that_does_not_fit_its_shape_is_corrupt(good: Path) -> None:
    raw = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode()
    good.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(4))
    with pytest.raises(CorruptCheckpoint, match="tensor a"):
        read_header(good)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "renamed.safetensors"])
def test_a_pickle_is_refused_and_the_cure_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save({"state_dict": {"a": torch.zeros(2)}}, path)
    with pytest.raises(UnsafeCheckpoint, match="convert"):
        read_header(path)


def test_a_folder_is_not_a_match(tmp_path: Path) -> None:
    with pytest.raises(NotAMatch, match="folder"):
        read_header(tmp_path)


def test_the_title_carries_the_short_hash() -> None:
    info = ModelInfo(name="art/x", path="/m/art/x.safetensors", family="sd1", label="SD 1", supported=True)
    assert info.title == "art/x.safetensors"
    known = ModelInfo(name="x", path="/x.safetensors", family="sd1", label="SD 1", supported=True, sha256="0" * 64)
    assert known.title == "x.safetensors [0000000000]"


@pytest.mark.parametrize("start", [b"\x80\x02", b"PK"])
def test_a_header_whose_length_looks_like_a_pickle_or_zip_is_read(tmp_path: Path, start: bytes) -> None:
    length = int.from_bytes(start, "little")
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(length)
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header + bytes(4))
    assert read_header(path).shape("a") == (1,)


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.ENOENT, CheckpointMissing, "no such file"),
        (errno.EACCES, CheckpointError, "may not be read"),
        (errno.EMFILE, CheckpointError, "too many files"),
        (errno.ENFILE, CheckpointError, "too many files"),
        (errno.ENOMEM, OutOfMemory, "too little free memory"),
        (errno.EIO, CheckpointError, "cannot be read"),
    ],
)
def test_what_the_system_refuses_is_told_apart(good: Path, number: int, kind: type[Exception], says: str) -> None:
    error = unreadable(good, OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert says in error.message
    assert "Download" not in error.hint


def test_a_folder_that_windows_does_not_permit_to_open_is_a_folder(tmp_path: Path) -> None:
    assert isinstance(unreadable(tmp_path, PermissionError(errno.EACCES, "denied")), NotAMatch)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_file_that_may_not_be_read(good: Path) -> None:
    good.chmod(0)
    with pytest.raises(CheckpointError, match="may not be read"):
        read_header(good)
