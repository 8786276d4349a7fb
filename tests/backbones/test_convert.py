"""Pickles are read without running them, and written as safetensors whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from modules.backbones.convert import convert_pickle
from modules.commands.convert import known
from modules.core.checkpoint import read_header
from modules.core.errors import CheckpointMissing, CorruptCheckpoint, NotAMatch, StorageError, UnsafeCheckpoint
from modules.core.family import Family, identify
from modules.core.plugin import collect
from tests.tiny import metadata, write_tiny_sd1


class Bomb:
    """What a malicious checkpoint does: unpickling it calls a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo harm > harm.txt",)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_nested_state_dict_is_flattened_and_keeps_its_dtypes(legacy: bool, tmp_path: Path) -> None:
    shared = torch.ones(2, 3)
    nested = {
        "epoch": 3,
        "state_dict": {
            "a.weight": torch.randn(4, 4, dtype=torch.float16),
            "b.weight": shared,
            "c.weight": shared,
            "d.weight": torch.randn(3, 5).t(),
            "e.step": torch.tensor(7),
        },
    }
    torch.save(nested, tmp_path / "old.ckpt", _use_new_zipfile_serialization=not legacy)
    target = convert_pickle(tmp_path / "old.ckpt", tmp_path / "new.safetensors")
    found = load_file(target)
    assert set(found) == set(nested["state_dict"])  # type: ignore[call-overload]
    for name, tensor in nested["state_dict"].items():  # type: ignore[attr-defined]
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    with safe_open(str(target), framework="pt") as file:
        assert file.metadata()["converted_from"] == "old.ckpt"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.safetensors", "old.ckpt"]


def test_a_converted_checkpoint_is_recognised(tmp_path: Path) -> None:
    tensors = load_file(write_tiny_sd1(tmp_path / "a.safetensors"))
    torch.save(tensors, tmp_path / "b.pt")
    header = read_header(convert_pickle(tmp_path / "b.pt", tmp_path / "b.safetensors"))
    assert "config" in metadata()
    info = identify(header, collect("modules.families", Family, group="inferenz.families"))
    assert info.family == "sd1"  # recognised; its tiny widths need metadata that a pickle does not have


def test_a_malicious_pickle_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.ones(1)}, "x": Bomb()}, tmp_path / "bad.ckpt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    for name in ("bad.ckpt", "raw.pt"):
        with pytest.raises(UnsafeCheckpoint, match=r"could run code.*system"):
            convert_pickle(tmp_path / name, tmp_path / "out.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.ckpt", "raw.pt"]


def test_damaged_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    torch.save({"a": torch.randn(1000)}, tmp_path / "whole.ckpt")
    data = (tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.ckpt").write_bytes(b"")
    (tmp_path / "text.ckpt").write_bytes(b"hello, this is text")
    torch.save({"epoch": 1}, tmp_path / "none.ckpt")
    target = tmp_path / "out.safetensors"
    for name in ("half.ckpt", "empty.ckpt", "text.ckpt"):
        with pytest.raises(CorruptCheckpoint, match=name):
            convert_pickle(tmp_path / name, target)
    with pytest.raises(NotAMatch, match="no tensors"):
        convert_pickle(tmp_path / "none.ckpt", target)
    with pytest.raises(NotAMatch, match=r"\.ckpt"):
        convert_pickle(write_tiny_sd1(tmp_path / "a.safetensors"), target)
    with pytest.raises(CheckpointMissing):
        convert_pickle(tmp_path / "gone.ckpt", target)
    assert not target.exists()


def test_nothing_is_overwritten_and_a_missing_folder_is_told(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.ckpt")
    (tmp_path / "a.safetensors").write_bytes(b"mine")
    with pytest.raises(StorageError, match="there already"):
        convert_pickle(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == b"mine"
    with pytest.raises(StorageError, match="could not be written"):
        convert_pickle(tmp_path / "a.ckpt", tmp_path / "nowhere" / "a.safetensors")


def test_overlapping_parts_of_one_memory_are_written_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    torch.save({"whole": whole, "part": whole[2:]}, tmp_path / "a.pt")
    written = load_file(convert_pickle(tmp_path / "a.pt", tmp_path / "a.safetensors"))
    assert torch.equal(torch.as_tensor(written["whole"]), whole)
    assert torch.equal(torch.as_tensor(written["part"]), whole[2:])


def test_tensors_that_are_no_model_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.ckpt")
    with pytest.raises(NotAMatch, match="no model that is known"):
        convert_pickle(tmp_path / "a.ckpt", tmp_path / "a.safetensors", known=known)
    torch.save(load_file(write_tiny_sd1(tmp_path / "b.safetensors")), tmp_path / "c.ckpt")
    assert convert_pickle(tmp_path / "c.ckpt", tmp_path / "c.safetensors", known=known).is_file()
    assert not (tmp_path / "a.safetensors").exists()
