"""Which files of the models folders are models: AUTOMATIC1111's, Forge's and ComfyUI's names of folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from modules.core.checkpoint import PICKLES
from modules.services.storage import FoundFile, walk

CHECKPOINT_FOLDERS = ("Stable-diffusion", "checkpoints", "diffusion_models", "unet")
VAE_FOLDERS = ("VAE", "vae")
TEXT_ENCODER_FOLDERS = ("text_encoder", "text_encoders", "CLIP", "clip")
SUFFIXES = frozenset({".safetensors", ".gguf"}) | PICKLES
INDEX = "model_index.json"  # marks a folder in diffusers' layout


def below(models_dirs: Iterable[Path], names: Iterable[str]) -> Iterator[Path]:
    """The folders of these names in each of `models_dirs`, whether they are there or not."""
    return (folder / name for folder in models_dirs for name in names)


def model_files(folders: Iterable[Path]) -> Iterator[tuple[str, FoundFile]]:
    """Every model file with its name: the path below its folder, without the extension. A path is given once."""
    seen: set[Path] = set()
    for folder in _distinct(folders):
        root = folder.absolute()
        found = list(walk(root, SUFFIXES | {".json"}))
        trees = {file.path.parent for file in found if file.path.name == INDEX}
        for file in found:
            inside = bool(trees) and not trees.isdisjoint(file.path.parents)
            whole = file.path.name == INDEX and trees.isdisjoint(file.path.parent.parents)
            if file.path in seen or (inside and not whole) or (file.path.suffix.lower() == ".json" and not whole):
                continue
            seen.add(file.path)
            named = file.path.parent if whole else file.path.with_suffix("")
            yield (named.relative_to(root).as_posix() if named != root else root.name), file


def _distinct(folders: Iterable[Path]) -> Iterator[Path]:
    """Each folder that is there once: where a file system ignores case, VAE and vae are one."""
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        try:
            stat = folder.stat()
        except OSError:
            continue
        if (stat.st_dev, stat.st_ino) not in seen:
            seen.add((stat.st_dev, stat.st_ino))
            yield folder
