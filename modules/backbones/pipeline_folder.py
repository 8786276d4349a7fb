"""A folder in diffusers' layout looked at before anything of it is loaded: its pipeline, its parts, and what is unsafe.

diffusers and transformers are not asked to judge: they would run code that lies in a folder or on a hub, and read
pickles, where the person did not say no.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DiffusionPipeline, ModularPipeline, ModularPipelineBlocks
from diffusers.pipelines import deprecated

from modules.backbones.modular import WORKFLOW
from modules.backbones.pipeline_call import parameters
from modules.core.checkpoint import PICKLES, read_header, unreadable
from modules.core.errors import CheckpointError, CorruptCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
from modules.families.layouts.pipelines import does_instead

_VARIANT = re.compile(r"\.(?P<before>\w+)(?:-\d+-of-\d+)?\.safetensors$|-\d+-of-\d+\.(?P<after>\w+)\.safetensors$")
# Packages that single pipelines need, by their names on the index -> the module that comes with it
_MODULES = {
    "beautifulsoup4": "bs4", "opencv": "cv2", "protobuf": "google.protobuf", "invisible_watermark": "imwatermark",
}  # fmt: skip
_OPTIONAL = ("torchvision", "sentencepiece", "protobuf", "tiktoken", "ftfy", "beautifulsoup4", "bitsandbytes", "gguf")
# Arguments of pipelines that make something else, whatever they are called
_NO_PICTURE = frozenset(
    ("num_frames", "video_length", "num_videos_per_prompt", "num_waveforms_per_prompt", "gen_length")
)
_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class PipelineFolder:
    """What a folder holds. kind: the pipeline's class; components: name -> (library, class).

    variant: the middle of the names of its weight files where they have one ("fp16"), else None. modular: whether it is
    one of diffusers' modular pipelines.
    """

    path: Path
    kind: type[Any]
    components: Mapping[str, tuple[str, str]]
    variant: str | None
    modular: bool = False


def look_into(index: Path) -> PipelineFolder:
    """The folder of a model_index.json or modular_model_index.json.

    Raises CheckpointError for what cannot or must not be loaded.
    """
    entries = _json(index)
    name = entries.get("_class_name")
    if not isinstance(name, str):
        raise UnsafeCheckpoint(f"{index.parent.name} brings a pipeline as code of its own, which is not run.")
    components = _components(entries)
    kind = _pipeline(index.parent, name, entries)
    for part, (library, found) in components.items():
        if library in _left():
            raise UnsupportedCheckpoint(
                f"{index.parent.name}: its {part} is a {found} of {library}, which diffusers {diffusers.__version__} "
                "does not load any more."
            )
        if not _known(library):
            raise UnsafeCheckpoint(
                f"{index.parent.name}: its {part} is code that comes with it or from {library!r}, which is not run.",
                hint="Accepted: parts of diffusers and transformers.",
            )
        if absent := missing_packages(_wanted(library, found)):
            raise without(index.parent.name, absent, f"its {part}, a {found},")
    variants = [_checked_part(index.parent / part, kind.__name__, named) for part, named in components.items()]
    variant = next((each for each in variants if each), None)
    return PipelineFolder(index.parent, kind, components, variant, issubclass(kind, ModularPipeline))


def _pipeline(folder: Path, name: str, entries: Mapping[str, Any]) -> type[Any]:
    kind = getattr(diffusers, name, None)
    if not isinstance(kind, type):
        raise UnsupportedCheckpoint(
            f"{folder.name} is made for {name}, which diffusers {diffusers.__version__} does not have.",
            hint="A newer diffusers may have it: pip install --upgrade diffusers.",
        )
    if instead := does_instead(name):
        raise UnsupportedCheckpoint(f"{folder.name} is a {name}, which {instead}.")
    if absent := missing_packages(getattr(kind, "_backends", ())):
        raise without(folder.name, absent, name)
    if issubclass(kind, ModularPipeline):
        _check_blocks(folder, kind, entries)
        return kind
    call: Callable[..., Any] | None = getattr(kind, "__call__", None)  # noqa: B004  its signature is wanted
    named = parameters(call) if call and issubclass(kind, DiffusionPipeline) else {}
    needed = [key for key, each in named.items() if each.default is each.empty and key != "prompt"]
    if "prompt" not in named or needed or not _NO_PICTURE.isdisjoint(named):
        what = f": it needs {', '.join(needed)}" if needed else ""
        raise UnsupportedCheckpoint(f"{folder.name} is a {name}, which makes no pictures from text alone{what}.")
    lacks = [part for part in _expected(kind) if part not in entries]
    if lacks:
        raise CorruptCheckpoint(
            f"{folder.name} names no {' and no '.join(lacks)} in its model_index.json, and {name} needs "
            f"{'it' if len(lacks) == 1 else 'them'}.",
            hint="Add what is missing as folders of these names, and to that file as the others are there.",
        )
    return kind


def _check_blocks(folder: Path, kind: type[Any], entries: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a modular pipeline that needs more than a text, or whose blocks are not diffusers'."""
    named = entries.get("_blocks_class_name") or kind.default_blocks_name
    blocks = getattr(diffusers, str(named), None)
    if not (isinstance(blocks, type) and issubclass(blocks, ModularPipelineBlocks)):
        raise UnsafeCheckpoint(f"{folder.name} brings the blocks of its pipeline as code of its own, which is not run.")
    made = blocks()
    if "images" not in made.output_names or WORKFLOW not in (getattr(made, "_workflow_map", None) or ()):
        raise UnsupportedCheckpoint(f"{folder.name} is a {kind.__name__}, which makes no pictures from text alone.")


def _components(entries: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of each part. Modular pipelines tell in a third place where it lies and its class again."""
    found = {}
    for part, value in entries.items():
        if isinstance(value, list) and len(value) in (2, 3):
            told = value[2].get("type_hint") if isinstance(value[-1], dict) else None
            library, name = told if isinstance(told, list) and len(told) == 2 else value[:2]
            if isinstance(library, str) and isinstance(name, str):
                found[part] = (library, name)
    return found


def _expected(kind: type[Any]) -> list[str]:
    """The parts without which a pipeline's class cannot be made."""
    optional = set(getattr(kind, "_optional_components", ()))
    return [
        name for name, each in parameters(kind.__init__).items() if each.default is each.empty and name not in optional
    ]


def _known(library: str) -> bool:
    if library in ("diffusers", "transformers"):
        return True
    return library.isidentifier() and importlib.util.find_spec(f"diffusers.pipelines.{library}") is not None


def _left() -> set[str]:
    """What diffusers has put aside: it runs pipelines of it, and does not find their parts for a folder."""
    return {each.name for each in pkgutil.iter_modules(deprecated.__path__)}


def _checked_part(folder: Path, pipeline: str, named: tuple[str, str]) -> str | None:
    """The variant in which a component's weights lie, None where they have plain names or there are none.

    named: its library and class.
    """
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
        if (folder / config).is_file() and "auto_map" in _json(folder / config) and _by_itself(folder / config, named):
            raise UnsafeCheckpoint(
                f"{folder.parent.name}/{folder.name}/{config} asks for code of its own (auto_map), which is not run."
            )
    pieces = any(path.suffix == ".model" for path in files) and not (folder / "tokenizer.json").is_file()
    if pieces and (absent := missing_packages(("sentencepiece", "protobuf"))):
        raise without(folder.parent.name, absent, f"its {folder.name}")
    for path in weights:
        read_header(path)  # a truncated file is named here, before anything is loaded
    found = [match["before"] or match["after"] for path in weights if (match := _VARIANT.search(path.name))]
    return found[0] if found and len(found) == len(weights) else None


def _by_itself(config: Path, named: tuple[str, str]) -> bool:
    """Whether transformers would have to look for the class named in a configuration elsewhere.

    Kolors' files name code of its text encoder's first authors, and diffusers has classes of its own for it.
    """
    import transformers

    library, part = named
    if library not in ("diffusers", "transformers") and hasattr(_module(library), part):
        return False
    told = _json(config)
    names = [told.get("tokenizer_class"), *(told.get("architectures") or ())]
    return not any(isinstance(name, str) and hasattr(transformers, name) for name in names)


def _module(library: str) -> Any:
    return importlib.import_module(f"diffusers.pipelines.{library}")


def _wanted(library: str, part: str) -> list[str]:
    """The packages beyond its own that a class of transformers cannot be made without."""
    import transformers

    kind = getattr(transformers, part, None) if library == "transformers" else None
    if kind is None:
        return []
    named = [name for name in getattr(kind, "_backends", ()) if name in _OPTIONAL]
    # What reads videos has no form without torchvision, and a processor of both is not made without it
    return [*named, "torchvision"] if "video_processor" in parameters(kind.__init__) else named


def missing_packages(names: Iterable[str]) -> list[str]:
    """Those of some packages, by their names on the index, that are not installed."""
    return [name for name in names if not _installed(_MODULES.get(name, name))]


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


def without(model: str, packages: Sequence[str], what: str) -> UnsupportedCheckpoint:
    """The error of a folder that needs packages that are not installed. what: of it that needs them, in words."""
    names = " ".join(packages)
    return UnsupportedCheckpoint(
        f"{model} cannot be used: {what} needs {' and '.join(packages)}, which {'is' if len(packages) == 1 else 'are'} "
        "not installed.",
        hint=f"Into the environment that Inferenz runs in: {sys.executable} -m pip install {names}",
    )


def refused(model: str, kind: str, error: Exception) -> CheckpointError:
    """What it means that a pipeline, a `kind`, could not be loaded, or not be run for want of a name."""
    told = str(error).strip()
    named: list[str] = []
    if isinstance(error, NameError):  # of what a module imports where a package is there, and uses anyway
        frames = [frame.f_globals for frame, _ in traceback.walk_tb(error.__traceback__)]
        named = [name for name in _OPTIONAL if frames and f"is_{name}_available" in frames[-1]]
        named = [name for name in named if error.name == name] or named
    elif isinstance(error, ImportError):
        named = [name for name in _OPTIONAL if re.search(rf"\b{name}\b", told, re.IGNORECASE)]
    if absent := missing_packages(named):
        return without(model, absent, kind)
    return CorruptCheckpoint(
        f"{model} cannot be loaded as a {kind}: {told}", hint="Is the folder complete, with its tokenizers?"
    )


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
