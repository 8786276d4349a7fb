"""The model manager with real tiny checkpoints on the CPU."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from modules.core.checkpoint import ModelInfo, Separate, read_header
from modules.core.errors import CheckpointError, CheckpointMissing, NotAMatch, OutOfMemory, SetupError, UnsafeCheckpoint
from modules.core.generation import FileRef
from modules.core.job import EngineOptions
from modules.diffusion.backbone import Backbone, BackboneKind, Placement
from modules.engine.manager import Loaders, ModelManager
from modules.engine.placement import Device, Machine
from tests.passes import chosen, denoise
from tests.tiny import write_tiny_sd1

MACHINE = Machine(devices=(Device(name="cpu", label="test", memory=2**34, bf16=True),))


def ref(path: Path) -> FileRef:
    return FileRef(name=path.stem, path=str(path))


def manager(cache_bytes: int | None = None, loaders: Loaders | None = None) -> ModelManager:
    return ModelManager(EngineOptions(device="cpu", cache_bytes=cache_bytes), machine=MACHINE, loaders=loaders)


@pytest.fixture
def files(tmp_path: Path) -> list[FileRef]:
    return [ref(write_tiny_sd1(tmp_path / f"{name}.safetensors", seed)) for seed, name in enumerate("abc")]


def picture(backbone: Backbone) -> Tensor:
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return backbone.decode(denoise(backbone, x, torch.tensor([1.0]), backbone.encode(["a"], 1)[0]))


def test_a_second_time_it_is_resident(files: list[FileRef]) -> None:
    models = manager()
    first, second = models.bring(chosen(files[0])), models.bring(chosen(files[0]))
    assert (first.source, second.source) == ("file", "resident")
    assert first.backbone is second.backbone
    assert first.backbone.key == models.key(chosen(files[0]))
    assert models.loaded() == ("a",)


def test_the_least_recently_used_goes_first(files: list[FileRef]) -> None:
    models = manager()
    size = models.bring(chosen(files[0])).backbone.weight_bytes
    models = manager(cache_bytes=int(size * 2.5))
    for file in (files[0], files[1], files[0], files[2]):
        models.bring(chosen(file))
    assert models.loaded() == ("c", "a")
    assert models.loaded_bytes() == 2 * size
    assert models.bring(chosen(files[1])).source == "file"


def test_a_pinned_model_stays_whatever_the_budget(files: list[FileRef]) -> None:
    models = manager(cache_bytes=1)
    pinned = models.bring(chosen(files[0])).backbone
    before = picture(pinned)
    models.pin(pinned.key)
    models.pin(pinned.key)
    models.bring(chosen(files[1]))
    models.unload()
    assert models.loaded() == ("a",)
    assert torch.equal(picture(pinned), before)
    models.unpin(pinned.key)
    models.unload()
    assert models.loaded() == ("a",)
    models.unpin(pinned.key)
    models.unload()
    assert models.loaded() == ()


def test_only_loaded_models_can_be_pinned(files: list[FileRef]) -> None:
    models = manager()
    with pytest.raises(KeyError):
        models.pin(models.key(chosen(files[0])))


def test_a_changed_file_is_loaded_anew(files: list[FileRef], tmp_path: Path) -> None:
    models = manager()
    old = models.bring(chosen(files[0]))
    new = write_tiny_sd1(tmp_path / "new.part", seed=9)
    os.utime(new, ns=(1, old.backbone.key.mtime_ns + 1_000_000_000))
    new.replace(files[0].path)
    brought = models.bring(chosen(files[0]))
    assert brought.source == "file"
    assert models.loaded_bytes() == brought.backbone.weight_bytes


def test_broken_files_leave_the_previous_model_usable(files: list[FileRef], tmp_path: Path) -> None:
    models = manager()
    good = models.bring(chosen(files[0])).backbone
    before = picture(good)
    whole = Path(files[1].path).read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.safetensors").write_bytes(b"<!doctype html><title>404</title>" * 9)
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    save_file({"strange.weight": np.zeros((4, 4), np.float32)}, tmp_path / "foreign.safetensors")
    for name in ("short.safetensors", "text.safetensors", "empty.safetensors", "foreign.safetensors"):
        with pytest.raises(CheckpointError, match=name):
            models.bring(chosen(ref(tmp_path / name)))
    with pytest.raises(UnsafeCheckpoint, match="convert"):
        models.bring(chosen(ref(tmp_path / "old.ckpt")))
    with pytest.raises(CheckpointMissing, match="gone"):
        models.bring(chosen(ref(tmp_path / "gone.safetensors")))
    with pytest.raises(CheckpointError, match="no VAE"):
        models.bring(chosen(files[0], Separate(vae=ref(tmp_path / "foreign.safetensors"))))
    assert models.loaded() == ("a",)
    assert torch.equal(picture(good), before)


def test_the_choice_of_vae_makes_another_model(files: list[FileRef]) -> None:
    models = manager()
    own, other = models.bring(chosen(files[0])), models.bring(chosen(files[0], Separate(vae=files[1])))
    assert other.source == "file"
    assert own.backbone.key != other.backbone.key
    assert not torch.equal(picture(own.backbone), picture(other.backbone))
    assert models.loaded() == ("a",)


def test_a_checkpoint_is_loaded_as_what_it_is_taken(files: list[FileRef]) -> None:
    models = manager()
    plain = models.bring(chosen(files[0])).backbone
    taken = models.bring(replace(chosen(files[0]), family="sd1", prediction="v")).backbone
    assert not torch.equal(picture(plain), picture(taken))
    with pytest.raises(NotAMatch, match="cannot be taken as Stable Diffusion XL"):
        models.bring(replace(chosen(files[0]), family="sdxl"))


def test_new_options_move_models_or_change_nothing(files: list[FileRef]) -> None:
    models = manager()
    models.bring(chosen(files[0]))
    with pytest.raises(SetupError):
        models.configure(EngineOptions(device="cuda"))
    models.configure(EngineOptions(device="cpu", preview_ms=7))
    assert models.loaded() == ("a",)
    models.configure(EngineOptions(device="cpu", dtype="bfloat16"))
    assert models.loaded() == ()
    assert models.bring(chosen(files[0])).backbone.key.dtype == "bfloat16"
    models.configure(EngineOptions(device="cpu", dtype="bfloat16", cache_bytes=0))
    models.bring(chosen(files[1]))
    assert models.loaded() == ("b",)


def test_without_memory_others_go_before_it_fails(files: list[FileRef]) -> None:
    attempts: list[str] = []
    real = Loaders()

    def load(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> Backbone:
        attempts.append(info.name)
        if info.name == "c" or (attempts.count("b") == 1 and info.name == "b"):
            raise torch.OutOfMemoryError("out of memory")
        return real.kinds["sd1"].load(info, separate, placement)

    models = manager(loaders=Loaders(families=real.families, kinds={"sd1": BackboneKind(name="sd1", load=load)}))
    models.bring(chosen(files[0]))
    models.bring(chosen(files[1]))
    assert attempts == ["a", "b", "b"]
    assert models.loaded() == ("b",)
    with pytest.raises(OutOfMemory, match="lowvram"):
        models.bring(chosen(files[2]))


def test_other_errors_of_a_loader_are_not_taken_for_lack_of_memory(files: list[FileRef]) -> None:
    def load(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> Backbone:
        raise RuntimeError("a mistake")

    kinds = {"sd1": BackboneKind(name="sd1", load=load)}
    with pytest.raises(RuntimeError, match="a mistake"):
        manager(loaders=Loaders(kinds=kinds)).bring(chosen(files[0]))


@pytest.mark.skipif(not hasattr(psutil.Process().memory_full_info(), "uss"), reason="the system does not tell")
def test_fifty_swaps_over_five_models_give_their_memory_back(tmp_path: Path) -> None:
    """Half-precision files computed in float32: 40 to 100 MB of anonymous memory come and go at each swap."""
    widths = (8_000, 20_000, 14_000, 11_000, 17_000)
    paths = [write_wide_sd1(tmp_path / f"{width}.safetensors", width) for width in widths]
    models = manager(cache_bytes=1)
    taken = []
    for swap in range(51):  # the first one is no swap
        brought = models.bring(chosen(ref(paths[swap % 5])))
        assert brought.backbone.weight_bytes > 40_000_000
        taken.append(anonymous_bytes())
    assert taken[50] <= taken[5] * 1.03  # both with the same model in place
    assert max(taken[6:]) <= max(taken[:6]) * 1.03


def anonymous_bytes() -> int:
    """Bytes that no file backs; elsewhere than on Linux the USS. That counts library pages, which come and go with the
    system's file cache.
    """
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        return int(psutil.Process().memory_full_info().uss)
    lines = rollup.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def write_wide_sd1(path: Path, width: int) -> Path:
    """The tiny checkpoint with ten text layers of a very wide feed-forward: over 100 MB in float32 at 20,000."""
    write_tiny_sd1(path, width, dtype="F16")
    tensors, metadata = load_file(path), dict(read_header(path).metadata)
    stem = "cond_stage_model.transformer.text_model.encoder.layers."
    wide = 8 * width
    for layer in range(10):
        for name in [name for name in tensors if name.startswith(f"{stem}0.")]:
            tensors[name.replace(f"{stem}0.", f"{stem}{layer}.")] = tensors[name]
        tensors[f"{stem}{layer}.mlp.fc1.weight"] = np.full((wide, 8), width / 20_000, np.float16)
        tensors[f"{stem}{layer}.mlp.fc1.bias"] = np.zeros(wide, np.float16)
        tensors[f"{stem}{layer}.mlp.fc2.weight"] = np.full((8, wide), width / 20_000, np.float16)
    save_file(tensors, path, metadata=metadata)
    return path
