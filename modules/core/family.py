"""A model family as the catalog knows it: recognised from a safetensors header alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import CheckpointError, NotAMatch, UnsupportedCheckpoint

Detect = Callable[[Header], ModelInfo]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part that a model needs besides its denoiser, which may lie in a file of its own.

    name: the component, as diffusers names it ("text_encoder_2", "vae"). kind: which files fit: the `variant` of their
    description: of text encoders "clip_l", "clip_g", "clip_h", "t5", "qwen2_5_vl", "qwen3" ..., of VAEs "kl4" (4 latent
    channels: SD1, SD2, SDXL), "kl16" (SD3, Flux, Z-Image, Chroma), "qwen" ... usual: a file name to mention. optional:
    the model works without.
    """

    name: str
    kind: str
    usual: str
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a kind of file is recognised, and what a model of it consists of.

    parts: besides UNet or transformer; empty for what is no model.
    detect(header): the file's description; its `name` is the file's stem until the catalog knows better. Raises
    NotAMatch (not of this family) or CorruptCheckpoint (of this family, and damaged or incomplete; says what is
    missing). rank: families are asked in this order, the most particular first.
    """

    name: str
    label: str
    detect: Detect
    rank: int = 1000
    parts: tuple[Part, ...] = ()


def family(name: str, *, label: str, rank: int = 1000, parts: tuple[Part, ...] = ()) -> Callable[[Detect], Family]:
    """Mark a detect function as a family."""

    def describe(detect: Detect) -> Family:
        return Family(name=name, label=label, detect=detect, rank=rank, parts=parts)

    return describe


def recognise(header: Header, families: Mapping[str, Family]) -> ModelInfo:
    """The description of a file that can be loaded.

    Raises CorruptCheckpoint, UnsupportedCheckpoint (the family is named) or NotAMatch (no family knows the file).
    """
    for kind in families.values():
        try:
            info = kind.detect(header)
        except NotAMatch:
            continue
        if not info.supported:
            raise UnsupportedCheckpoint(f"{header.path.name}: {info.problem}")
        return info
    raise NotAMatch(f"{header.path.name}: {_unknown(header)}")


def identify(header: Header, families: Mapping[str, Family]) -> ModelInfo:
    """The description of any readable safetensors file; `supported` False and `problem` where it cannot be loaded."""
    for kind in families.values():
        try:
            return kind.detect(header)
        except NotAMatch:
            continue
        except CheckpointError as error:
            return foreign(header, kind.name, kind.label, str(error))
    return foreign(header, "unknown", "Unknown", _unknown(header))


def foreign(header: Header, name: str, label: str, problem: str) -> ModelInfo:
    """The description of a file that is recognised and cannot be loaded: `problem` says why."""
    return ModelInfo(
        name=header.path.stem,
        path=str(header.path),
        family=name,
        label=label,
        supported=False,
        problem=problem,
        components=(),
        size=header.size,
        mtime_ns=header.mtime_ns,
        metadata=header.metadata,
    )


def _unknown(header: Header) -> str:
    if not header.tensors:
        return "the file holds no tensors."
    shown = ", ".join(sorted(header.tensors, key=len)[:3])
    return f"this is no model that Inferenz knows. Its {len(header.tensors)} tensors are named like {shown}."
