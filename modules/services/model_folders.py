"""Which files of the models folders are models: AUTOMATIC1111's, Forge's and ComfyUI's names of folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from modules.core.checkpoint import MODEL_INDEXES, PICKLES
from modules.services.storage import FoundFile, walk

CHECKPOINT_FOLDERS = ("Stable-diffusion", "checkpoints", "diffusion_models", "unet")
VAE_FOLDERS = ("VAE", "vae")
TEXT_ENCODER_FOLDERS = ("text_encoder", "text_encoders", "CLIP", "clip")
SUFFIXES = frozenset({".safetensors", ".gguf"}) | PICKLES


def below(models_dirs: Iterable[Path], names: Iterable[str]) -> Iterator[Path]:
    """The folders of these names in each of `models_dirs`, whether they are there or not."""
    return (folder / name for folder in models_dirs for name in names)


def model_files(folders: Iterable[Path]) -> Iterator[tuple[str, FoundFile]]:
    """Every model file with its name: the path below its folder, without the extension. A path is given once.

    A folder in diffusers' layout is its model_index.json, with the size of all its weights and the newest time of all.
    """
    seen: set[Path] = set()
    for folder in _distinct(folders):
        root = folder.absolute()
        found = list(walk(root, SUFFIXES | {".json"}))
        indexes: dict[Path, Path] = {}
        for name in reversed(MODEL_INDEXES):
            indexes.update({file.path.parent: file.path for file in found if file.path.name == name})
        trees = indexes.keys()
        for file in found:
            inside = bool(trees) and not trees.isdisjoint(file.path.parents)
            whole = file.path == indexes.get(file.path.parent) and trees.isdisjoint(file.path.parent.parents)
            if file.path in seen or (inside and not whole) or (file.path.suffix.lower() == ".json" and not whole):
                continue
            seen.add(file.path)
            named = file.path.parent if whole else file.path.with_suffix("")
            listed = _whole(file, found) if whole else file
            yield (named.relative_to(root).as_posix() if named != root else root.name), listed


def _whole(index: FoundFile, found: Iterable[FoundFile]) -> FoundFile:
    """The index file of a folder with what the folder is: any change of its files is seen."""
    inside = [file for file in found if index.path.parent in file.path.parents]
    weights = sum(file.size for file in inside if file.path.suffix.lower() != ".json")
    return FoundFile(index.path, weights, max(file.mtime_ns for file in inside))


def _distinct(folders: Iterable[Path]) -> Iterator[Path]:
    """Each folder that is there once: where a file system ignores case, VAE and vae are one.

    Some network drives on Windows number no files, and all would be one there: their paths tell them apart.
    """
    seen: set[tuple[int, int] | str] = set()
    for folder in folders:
        try:
            stat = folder.stat()
        except OSError:
            continue
        identity = (stat.st_dev, stat.st_ino) if stat.st_ino else os.path.realpath(folder).casefold()
        if identity not in seen:
            seen.add(identity)
            yield folder
