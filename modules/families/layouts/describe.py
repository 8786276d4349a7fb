"""From sorted parts to the description of a model: completeness, and the words that name what tensors do not tell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import CorruptCheckpoint
from modules.families.layouts.defaults import told_defaults
from modules.families.layouts.packed import LOADABLE, PACKINGS
from modules.families.layouts.parts import Parts, main_dtype
from modules.families.layouts.shapes import missing_text

_TOLD = ("modelspec.architecture", "modelspec.title", "modelspec.implementation", "general.name", "general.basename")


def described(
    header: Header,
    parts: Parts,
    *,
    family: str,
    label: str,
    prediction: str,
    defaults: Defaults,
    variant: str = "",
    config: Mapping[str, Mapping[str, Any]] | None = None,
    problem: str = "",
) -> ModelInfo:
    """A model's description. config: in place of that of the parts; problem: why it is not supported.

    Raises CorruptCheckpoint naming what is missing.
    """
    check_complete(header, parts)
    problem = problem or packed_otherwise(parts.quantisation, f"this is {label}") or _variation(parts, label)
    found = dict(parts.configs if config is None else config)
    if scheduler := header.configs.get("scheduler"):
        told = {name: value for name, value in scheduler.items() if not name.startswith("_")}
        found["scheduler"] = {**told, **found.get("scheduler", {})}
    return ModelInfo(
        name=header.stem,
        path=str(header.path),
        family=family,
        label=label,
        supported=not problem,
        problem=problem,
        prediction=prediction,
        variant=variant,
        dtype=main_dtype(header),
        quantisation=parts.quantisation,
        layout=parts.layout,
        components=parts.present,
        size=header.size,
        mtime_ns=header.mtime_ns,
        defaults=told_defaults(header, sized(header, defaults)),
        config=found,
        metadata=header.metadata,
    )


def described_alone(header: Header, parts: Parts, component: str, *, label: str, problem: str = "") -> ModelInfo:
    """The description of a file as that of the one part that is taken from it, a text encoder or a VAE.

    problem: why it is not supported. Its variant is its kind, and its family is called as the component.
    """
    network = parts.networks[component]
    problem = problem or packed_otherwise(
        parts.quantisation, f"{header.file_name} is a {'VAE' if component == 'vae' else 'text encoder'}"
    )
    return ModelInfo(
        name=header.stem,
        path=str(header.path),
        family=component,
        label=label,
        supported=not problem,
        problem=problem,
        variant=network.kind,
        dtype=main_dtype(header),
        quantisation=parts.quantisation,
        layout=parts.layout,
        components=(component,),
        size=header.size,
        mtime_ns=header.mtime_ns,
        config={component: dict(network.config)},
        metadata=header.metadata,
    )


def packed_otherwise(quantisation: str, beginning: str) -> str:
    """Why a file whose weights are packed so cannot be loaded, and what to take instead; "" where it can.

    beginning: "this is Flux.1".
    """
    if quantisation in LOADABLE:
        return ""
    instead = "take one in bf16, fp8 or GGUF"
    return f"{beginning}, whose weights are packed as {PACKINGS[quantisation]}, not supported yet: {instead}."


def _variation(parts: Parts, label: str) -> str:
    """Why a model with tensors that its class does not have is not supported; "" where there are none."""
    for component, network in parts.networks.items():
        if network.unknown:
            shown, count = network.unknown[0], len(network.unknown)
            more = f" and {count - 1} more tensors that are" if count > 1 else ", which is"
            part = component.replace("_", " ")
            lacks = f", and lacks {network.missing[0]}" if network.missing else ""
            what = f"its {part} has {shown}{more} not {label}'s{lacks}"
            return f"this is a variation of {label} that is not known here: {what}."
    return ""


def check_complete(header: Header, parts: Parts) -> None:
    """Raise CorruptCheckpoint naming what is missing of a part that is there."""
    for component, network in parts.networks.items():
        if network.missing and not network.unknown:  # what has other tensors instead is another model, and not damaged
            text = missing_text(header.file_name, list(network.missing), component.replace("_", " "))
            raise CorruptCheckpoint(text, hint="Download it again.")


def missing_of(header: Header, missing: Sequence[str], what: str) -> str:
    """The sentence that says which tensors of `what` a file lacks."""
    return missing_text(header.file_name, list(missing), what)


def sized(header: Header, defaults: Defaults) -> Defaults:
    """With the size that `modelspec.resolution` names in place of the family's, where it makes sense."""
    if found := re.fullmatch(r"\s*(\d+)\s*x\s*(\d+)\s*", header.metadata.get("modelspec.resolution", "")):
        width, height = int(found[1]), int(found[2])
        if all(64 <= side <= 2048 and side % 8 == 0 for side in (width, height)):
            return replace(defaults, width=width, height=height)
    return defaults


def says(header: Header, *words: str) -> bool:
    """Whether the file's name, or what its metadata calls it, has one of `words` at the beginning or end of a word.

    words: in lower case, regular expressions. "XL_Turbo" and "juggernautXLTurboV2" say turbo; "alcmodel" says no lcm.
    """
    texts = (header.stem, *(header.metadata.get(key, "") for key in _TOLD))
    split = (_CAMEL.sub("-", text).casefold() for text in texts)
    folded = " ".join(re.sub(r"[\s_.-]+", "-", text) for text in split)
    return any(re.search(rf"(?<![a-z])(?:{word})|(?:{word})(?![a-z])", folded) for word in words)


_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def named_steps(header: Header) -> int | None:
    """The number of steps that a file's name says ("lightning_4step", "hyper-8-steps"), None where it says none."""
    found = re.search(r"(?<!\d)(\d{1,2})[\s_-]?steps?(?![a-z])", header.stem.casefold())
    return int(found[1]) if found and 1 <= int(found[1]) <= 50 else None


def read_prediction(header: Header) -> str:
    """Of UNets: "v" where metadata, a marker tensor or a scheduler's configuration says so, "" where nothing does."""
    told = header.metadata.get("modelspec.prediction_type", "").casefold()
    config = header.configs.get("scheduler")
    scheduler = "" if config is None else str(config.get("prediction_type", "epsilon"))  # diffusers' own default
    if told.startswith("v") or scheduler == "v_prediction" or "v_pred" in header.tensors:
        return "v"
    return "epsilon" if told.startswith("eps") or scheduler == "epsilon" else ""


def zero_terminal_snr(header: Header) -> bool:
    """Whether a model was trained down to pure noise (Lin et al. 2023), as a marker or the configuration says."""
    scheduler = header.configs.get("scheduler", {})
    return "ztsnr" in header.tensors or scheduler.get("rescale_betas_zero_snr") is True
