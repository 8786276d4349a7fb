"""A model as a folder in diffusers' layout: one header over the files of all its components.

The model_index.json names the pipeline's class and, for each component, the library and class that it is of. Each
component lies in a folder of its own, with a config.json and its weights in one safetensors file or several, which an
index lists. Tokenizers and the like have no weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modules.core.errors import CheckpointMissing, CorruptCheckpoint, NotAMatch, UnsafeCheckpoint
from modules.core.header import MODEL_INDEXES, PICKLES, Header, TensorInfo, read_safetensors, unreadable

_MOST_BYTES = 16_000_000  # of a JSON file: the index of the largest models has one megabyte
# transformers 5 writes its tokenizers' common classes (TokenizersBackend); guiders come with HunyuanImage
_WEIGHTLESS = re.compile(
    r"(Tokenizer(Fast)?|(Tokenizers|SentencePiece|Python)Backend|Processor(Fast)?|FeatureExtractor|Scheduler|Checker"
    r"|Guidance)$"
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_VARIANTS = ("fp16", "bf16", "fp8", "fp32")  # of those that a folder may hold beside each other, the smaller first
_BASES = ("diffusion_pytorch_model", "model", "pytorch_model")


def read_folder(index: Path) -> Header:
    """The header over all weights of the folder that `index`, its model_index.json, lies in.

    A tensor's name begins with its component's. Raises CheckpointMissing, NotAMatch (no index of a pipeline),
    UnsafeCheckpoint (a component's weights are there as a pickle only) or CorruptCheckpoint (a file of it is missing
    or damaged: it is named), and what `unreadable` makes of the rest.
    """
    folder = index.parent
    told = _json(index, folder.name)
    if not isinstance(told.get("_class_name"), str):
        raise NotAMatch(f"{folder.name} is no model's folder: its {index.name} names no pipeline.")
    tensors: dict[str, TensorInfo] = {}
    configs: dict[str, Mapping[str, Any]] = {"model_index": told}
    size, newest = 0, index.stat().st_mtime_ns
    for component, kind in _components(told):
        place = folder / component
        if _WEIGHTLESS.search(kind):
            if kind.endswith("Scheduler"):
                configs[component] = _json(place / "scheduler_config.json", folder.name)
            continue
        configs[component] = _json(place / "config.json", folder.name)
        for file in _weights(place, folder.name):
            header = read_safetensors(file)
            size, newest = size + header.size, max(newest, header.mtime_ns)
            for name, info in header.tensors.items():
                tensors[f"{component}.{name}"] = replace(info, file=str(file), name=name)
    return Header(path=index, tensors=tensors, metadata={}, size=size, mtime_ns=newest, configs=configs)


def _components(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each component with the name of its class; those that the pipeline does without are left out."""
    for name, value in told.items():
        # Modular pipelines say in a third place where a component lies
        if not name.startswith("_") and isinstance(value, list) and len(value) in (2, 3) and isinstance(value[1], str):
            if "/" in name or "\\" in name or name in ("", ".", "..", "model_index"):
                raise NotAMatch(f"A model_index.json names a component {name!r}, which is no folder's name.")
            yield name, value[1]


def _json(path: Path, model: str) -> Mapping[str, Any]:
    named = path.name if path.parent.name == model else f"{path.parent.name}/{path.name}"
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        found = json.loads(raw[:_MOST_BYTES])
    except FileNotFoundError:
        if path.name in MODEL_INDEXES:
            raise CheckpointMissing(f"{model}: there is no {path.name}.") from None
        raise CorruptCheckpoint(f"{model} is incomplete: {named} is missing.", hint="Download it again.") from None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError):
        raise CorruptCheckpoint(f"{model}: {named} is damaged.", hint="Download it again.") from None
    if not isinstance(found, dict):
        raise CorruptCheckpoint(f"{model}: {named} is no JSON object.", hint="Download it again.")
    return found


def _weights(place: Path, model: str) -> list[Path]:
    """The files of a component's weights: the plain one, else a variant, each whole or in shards."""
    try:
        names = sorted(entry.name for entry in place.iterdir() if entry.is_file())
    except OSError as error:
        raise unreadable(place, error) from error
    for base in _BASES:
        for variant in ("", *_VARIANTS):
            middle = f".{variant}" if variant else ""
            for listed in (f"{base}.safetensors.index{middle}.json", f"{base}{middle}.safetensors.index.json"):
                if listed in names:
                    return _listed(place / listed, model)
            if f"{base}{middle}.safetensors" in names:
                return [place / f"{base}{middle}.safetensors"]
    if shards := [place / name for name in names if _SHARD.search(name)]:
        return shards
    if whole := [place / name for name in names if name.endswith(".safetensors")]:
        return whole[:1]
    if pickles := [name for name in names if Path(name).suffix.lower() in PICKLES]:
        raise UnsafeCheckpoint(
            f"{model}: its {place.name} is there as a pickle only ({pickles[0]}), and loading a pickle can run any "
            "code that is hidden in it.",
            hint=f'Convert it once with "python webui.py convert {place / pickles[0]}".',
        )
    raise CorruptCheckpoint(f"{model} is incomplete: {place.name} has no weights.", hint="Download it again.")


def _listed(index: Path, model: str) -> list[Path]:
    found = _json(index, model).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise CorruptCheckpoint(f"{model}: {index.parent.name}/{index.name} lists no files.", hint="Download it again.")
    files = [index.parent / name for name in sorted(set(found.values()))]
    for file in files:
        if file.parent != index.parent:
            raise CorruptCheckpoint(f"{model}: {index.name} lists a file outside of its folder.")
        if not file.is_file():
            raise CorruptCheckpoint(
                f"{model} is incomplete: {index.parent.name}/{file.name} is missing.", hint="Download it again."
            )
    return files
