from __future__ import annotations

from pathlib import Path

import pytest

from modules.cli import main
from modules.commands.console import BAD_INPUT, FAILED, FINE
from modules.core.checkpoint import read_header
from tests.commands.desk import Desk


def test_convert_refuses_what_it_would_spoil(desk: Desk, tmp_path: Path) -> None:
    console = desk.console()
    source = tmp_path / "old.ckpt"
    assert main(["convert", str(source)], console) == BAD_INPUT
    source.write_bytes(b"PK")
    (tmp_path / "old.safetensors").touch()
    assert main(["convert", str(source)], console) == BAD_INPUT
    assert "--force" in desk.err.getvalue()
    assert main(["convert", str(source), str(tmp_path / "new.bin")], console) == BAD_INPUT


def test_convert_replaces_only_when_forced_and_only_by_something_whole(desk: Desk, tmp_path: Path) -> None:
    source, target = tmp_path / "old.ckpt", tmp_path / "old.safetensors"
    target.write_bytes(b"what was there")
    source.write_bytes(b"no pickle")
    assert main(["convert", "--force", str(source)], desk.console()) == FAILED
    assert target.read_bytes() == b"what was there"
    torch = pytest.importorskip("torch")
    name = "text_model.embeddings.token_embedding.weight"  # of a text encoder
    torch.save({name: torch.ones(2, 2)}, source)
    assert main(["convert", "--force", str(source)], desk.console()) == FINE
    assert read_header(target).tensors[name].shape == (2, 2)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["old.ckpt", "old.safetensors"]
