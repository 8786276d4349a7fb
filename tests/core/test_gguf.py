"""GGUF headers, written by the reference implementation."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from modules.core import gguf as ours
from modules.core.checkpoint import read_header
from modules.core.errors import CheckpointMissing, CorruptCheckpoint, NotAMatch, UnsupportedCheckpoint

gguf = pytest.importorskip("gguf")


def written(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "flux")
    writer.add_string("general.name", "tiny")
    writer.add_uint32("general.quantization_version", 2)
    writer.add_array("tokenizer.ggml.tokens", [f"piece {i}" for i in range(500)])
    writer.add_array("tokenizer.ggml.scores", [0.5] * 500)
    writer.add_array("comfy.gguf.orig_shape.patch.weight", [8, 4, 2, 2])
    writer.add_tensor("img_in.bias", np.arange(64, dtype=np.float32))
    writer.add_tensor("txt_in.weight", np.ones((3, 64), dtype=np.float16))
    packed = gguf.quantize(np.ones((4, 256), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("img_in.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("patch.weight", np.ones((8, 16), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_names_types_shapes_and_metadata(tmp_path: Path) -> None:
    path = written(tmp_path / "tiny.gguf")
    header = read_header(path)
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert set(header.tensors) == set(read)
    for name, info in header.tensors.items():
        assert info.dtype == read[name].tensor_type.name
        assert info.offsets[1] - info.offsets[0] == read[name].n_bytes
    assert header.shape("img_in.weight") == (4, 256)
    assert header.shape("txt_in.weight") == (3, 64)
    assert header.shape("patch.weight") == (8, 4, 2, 2)
    assert header.metadata["general.architecture"] == "flux"
    assert header.metadata["general.name"] == "tiny"
    assert "tokenizer.ggml.tokens" not in header.metadata
    assert (header.size, header.path) == (path.stat().st_size, path)


def test_offsets_count_from_the_data(tmp_path: Path) -> None:
    path = written(tmp_path / "tiny.gguf")
    begin, end = read_header(path).tensors["img_in.bias"].offsets
    start = gguf.GGUFReader(path).data_offset
    values = np.frombuffer(path.read_bytes()[start + begin : start + end], dtype=np.float32)
    assert values.tolist() == list(range(64))


def test_block_sizes_are_those_of_the_reference() -> None:
    for number, (name, block, size) in ours.TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (name, (block, size))


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = written(tmp_path / "tiny.gguf").read_bytes()
    for length in (*range(0, 400, 7), len(whole) // 2, len(whole) - 200):
        path = tmp_path / "cut.gguf"
        path.write_bytes(whole[:length])
        with pytest.raises((CorruptCheckpoint, NotAMatch)):
            read_header(path)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (struct.pack("<IQQ", 9, 0, 0), "version is 9"),
        (struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<I", 99), "no type 99 of values"),
        (struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**60), "behind the end"),
        (
            struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 9, 1000),
            "array has values of type 9",
        ),
        (struct.pack("<IQQ", 3, 2**60, 0), "behind the end"),
        (struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", 1) + b"t" + struct.pack("<I", 500), "500 sides"),
        (
            struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 32, 77, 0),
            "no type 77 of tensors",
        ),
        (
            struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 33, 8, 0),
            "no whole number of blocks",
        ),
    ],
)
def test_damaged_headers(body: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(b"GGUF" + body)
    with pytest.raises(CorruptCheckpoint, match=says):
        read_header(path)


@pytest.mark.parametrize("kind", [4, 31, 38, 40])
def test_types_that_are_given_up_or_to_come_are_no_damage(kind: int, tmp_path: Path) -> None:
    path = tmp_path / "newer.gguf"
    tensor = struct.pack("<Q", 1) + b"w" + struct.pack("<IQIQ", 1, 32, kind, 0)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + tensor)
    with pytest.raises(UnsupportedCheckpoint, match=rf"newer.gguf has tensors of a type of GGUF \({kind}\)"):
        read_header(path)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(NotAMatch, match=r"other\.gguf is not a GGUF file"):
        read_header(tmp_path / "other.gguf")
    with pytest.raises(CheckpointMissing):
        read_header(tmp_path / "none.gguf")
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(NotAMatch, match="is a folder"):
        read_header(tmp_path / "folder.gguf")
