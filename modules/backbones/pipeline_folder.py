"""A folder in diffusers' layout looked at before anything of it is loaded: its pipeline, its parts, and what is unsafe.

diffusers and transformers are not asked to judge: they would run code that lies in a folder or on a hub, and read
pickles, where the person did not say no.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DiffusionPipeline

from modules.backbones.pipeline_call import parameters
from modules.core.checkpoint import PICKLES, read_header, unreadable
from modules.core.errors import CorruptCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint

_VARIANT = re.compile(r"\.(?P<before>\w+)(?:-\d+-of-\d+)?\.safetensors$|-\d+-of-\d+\.(?P<after>\w+)\.safetensors$")
_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class PipelineFolder:
    """What a folder holds. kind: the pipeline's class; components: name -> (library, class).

    variant: the middle of the names of its weight files where they have one ("fp16"), else None.
    """

    path: Path
    kind: type[Any]
    components: Mapping[str, tuple[str, str]]
    variant: str | None


def look_into(index: Path) -> PipelineFolder:
    """The folder of a model_index.json. Raises CheckpointError for what cannot or must not be loaded."""
    entries = _json(index)
    name = entries.get("_class_name")
    if not isinstance(name, str):
        raise UnsafeCheckpoint(f"{index.parent.name} brings a pipeline as code of its own, which is not run.")
    components = {
        part: (str(value[0]), str(value[1]))
        for part, value in entries.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)
    }
    kind = _pipeline(index.parent, name)
    for part, (library, _) in components.items():
        if not _known(library):
            raise UnsafeCheckpoint(
                f"{index.parent.name}: its {part} is code that comes with it or from {library!r}, which is not run.",
                hint="Accepted: parts of diffusers and transformers.",
            )
    variants = [_checked_part(index.parent / part, kind.__name__) for part in components]
    return PipelineFolder(index.parent, kind, components, next((each for each in variants if each), None))


def _pipeline(folder: Path, name: str) -> type[Any]:
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, DiffusionPipeline)):
        raise UnsupportedCheckpoint(
            f"{folder.name} is made for {name}, which diffusers {diffusers.__version__} does not have.",
            hint="A newer diffusers may have it: pip install --upgrade diffusers.",
        )
    call: Callable[..., Any] | None = getattr(kind, "__call__", None)  # noqa: B004  its signature is wanted
    named = parameters(call) if call else {}
    needed = [key for key, each in named.items() if each.default is each.empty and key != "prompt"]
    if "prompt" not in named or needed:
        what = f": it needs {', '.join(needed)}" if needed else ""
        raise UnsupportedCheckpoint(f"{folder.name} is a {name}, which makes no pictures from text alone{what}.")
    return kind


def _known(library: str) -> bool:
    if library in ("diffusers", "transformers"):
        return True
    return library.isidentifier() and importlib.util.find_spec(f"diffusers.pipelines.{library}") is not None


def _checked_part(folder: Path, pipeline: str) -> str | None:
    """The variant in which a component's weights lie, None where they have plain names or there are none."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except FileNotFoundError:
        raise CorruptCheckpoint(
            f"{folder.parent.name} is incomplete: its folder {folder.name} is missing, and {pipeline} needs it.",
            hint="Download it again.",
        ) from None
    except OSError as error:
        raise unreadable(folder, error) from error
    weights = [path for path in files if path.suffix == ".safetensors"]
    pickled = next((path for path in files if path.suffix in PICKLES), None)
    if pickled and not weights:
        raise UnsafeCheckpoint(
            f"{folder.parent.name}/{folder.name}/{pickled.name} is a pickle, and loading a pickle can run any code "
            "that is hidden in it.",
            hint="Use the folder with .safetensors files.",
        )
    for config in _CONFIGS:
        if (folder / config).is_file() and "auto_map" in _json(folder / config) and _by_itself(folder / config):
            raise UnsafeCheckpoint(
                f"{folder.parent.name}/{folder.name}/{config} asks for code of its own (auto_map), which is not run."
            )
    for path in weights:
        read_header(path)  # a truncated file is named here, before anything is loaded
    found = [match["before"] or match["after"] for path in weights if (match := _VARIANT.search(path.name))]
    return found[0] if found and len(found) == len(weights) else None


def _by_itself(config: Path) -> bool:
    """Whether transformers would have to look for the class named in a configuration elsewhere."""
    import transformers

    told = _json(config)
    names = [told.get("tokenizer_class"), *(told.get("architectures") or ())]
    return not any(isinstance(name, str) and hasattr(transformers, name) for name in names)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise CorruptCheckpoint(f"{path.parent.name}/{path.name} is not valid JSON: {error}.") from error
    if not isinstance(found, dict):
        raise CorruptCheckpoint(f"{path.parent.name}/{path.name} is not a JSON object.")
    return found
