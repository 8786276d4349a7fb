"""A model family as the catalog knows it: recognised from a safetensors header alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import CheckpointError, NotAMatch, RequestError, UnsupportedCheckpoint

Detect = Callable[[Header], ModelInfo]

# How kinds of parts are called: the `variant` of their descriptions, see `Part`
KINDS: Mapping[str, str] = {
    "clip_l": "CLIP-L", "clip_g": "CLIP-G", "clip_h": "OpenCLIP-H", "t5": "T5", "umt5": "UMT5",
    "qwen2_5_vl": "Qwen2.5-VL", "qwen3": "Qwen3", "qwen3_vl": "Qwen3-VL", "gemma2": "Gemma 2", "gemma3": "Gemma 3",
    "llama": "Llama", "mistral": "Mistral",
    "kl4": "4 latent channels", "kl16": "16 latent channels", "kl32": "32 latent channels",
    "qwen": "Qwen-Image's layout", "dc_ae": "DC-AE",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part that a model needs besides its denoiser, which may lie in a file of its own.

    name: the component, as diffusers names it ("text_encoder_2", "vae"). kind: which files fit: the `variant` of their
    description: of text encoders "clip_l", "clip_g", "clip_h", "t5", "qwen2_5_vl", "qwen3" ..., of VAEs "kl4" (4 latent
    channels: SD1, SD2, SDXL), "kl16" (SD3, Flux, Z-Image, Chroma), "qwen" ... usual: a file name to mention. optional:
    the model works without. without: variants of its family that have no such part.
    """

    name: str
    kind: str
    usual: str
    optional: bool = False
    without: tuple[str, ...] = ()

    @property
    def kind_label(self) -> str:
        """Its kind, in words: "CLIP-L"."""
        return KINDS.get(self.kind, self.kind)

    @property
    def label(self) -> str:
        """What it is, in words: "CLIP-L text encoder"."""
        return "VAE" if self.name == "vae" else f"{self.kind_label} text encoder"


@dataclass(frozen=True, kw_only=True)
class Reads:
    """How long a prompt may be. by: whose tokens count: "clip", "t5", "qwen_image", "z_image" (Qwen's within that
    model's conversation), "" where nobody knows. length: how many are read at once, an end that is added included: CLIP
    reads any number of such chunks, the others leave the rest out. lengths: other ones, by variant.
    """

    by: str = "clip"
    length: int = 75
    lengths: Mapping[str, int] = field(default_factory=dict)

    def of(self, variant: str) -> int:
        """The length for a variant."""
        return self.lengths.get(variant, self.length)


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a kind of file is recognised, and what a model of it consists of.

    parts: besides UNet or transformer; empty for what is no model.
    detect(header): the file's description; its `name` is the file's stem until the catalog knows better. Raises
    NotAMatch (not of this family) or CorruptCheckpoint (of this family, and damaged or incomplete; says what is
    missing). rank: families are asked in this order, the most particular first. predictions, variants: those that a
    model of it can be, the usual one first; what is told of one file must be among them. reads: how long a prompt
    may be.
    """

    name: str
    label: str
    detect: Detect
    rank: int = 1000
    parts: tuple[Part, ...] = ()
    predictions: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("",)
    reads: Reads = Reads()

    def needs(self, variant: str) -> tuple[Part, ...]:
        """The parts that a model of that variant consists of besides its denoiser."""
        return tuple(part for part in self.parts if variant not in part.without)


def family(
    name: str,
    *,
    label: str,
    rank: int = 1000,
    parts: tuple[Part, ...] = (),
    predictions: tuple[str, ...] = (),
    variants: tuple[str, ...] = ("",),
    reads: Reads = Reads(),
) -> Callable[[Detect], Family]:
    """Mark a detect function as a family."""

    def describe(detect: Detect) -> Family:
        return Family(
            name=name, label=label, detect=detect, rank=rank, parts=parts, predictions=predictions, variants=variants,
            reads=reads,
        )  # fmt: skip

    return describe


def recognise(
    header: Header,
    families: Mapping[str, Family],
    *,
    family: str = "",
    prediction: str = "",
    variant: str | None = None,
) -> ModelInfo:
    """The description of a file that can be loaded. family, prediction, variant: as what it is taken, see `identify`.

    Raises CorruptCheckpoint, UnsupportedCheckpoint (the family is named), NotAMatch (no family knows the file, or the
    one that was told does not), or RequestError where no file can be what was told.
    """
    if not family and (part := part_of_several(header)):
        raise UnsupportedCheckpoint(f"{header.file_name}: {part}")
    for kind in _asked(families, family):
        try:
            info = _taken_as(kind.detect(header), kind, prediction, variant)
        except NotAMatch as error:
            if family:
                raise NotAMatch(f"{header.file_name} cannot be taken as {kind.label}: {error}") from error
            continue
        if not info.supported:
            raise UnsupportedCheckpoint(f"{header.file_name}: {info.problem}")
        return info
    raise NotAMatch(f"{header.file_name}: {_unknown(header)}")


def identify(
    header: Header,
    families: Mapping[str, Family],
    *,
    family: str = "",
    prediction: str = "",
    variant: str | None = None,
) -> ModelInfo:
    """The description of any readable model file; `supported` False and `problem` where it cannot be loaded.

    family, prediction, variant: what a person says the file is, against what its header tells; "", "" and None leave
    it to the header. With a family that one alone is asked. Raises RequestError where no file can be what was told.
    """
    if not family and (part := part_of_several(header)):
        return foreign(header, "part", "Part of a model", part)
    for kind in _asked(families, family):
        try:
            return _taken_as(kind.detect(header), kind, prediction, variant)
        except NotAMatch as error:
            if family:
                return foreign(header, kind.name, kind.label, f"this cannot be taken as {kind.label}: {error}")
        except CheckpointError as error:
            return foreign(header, kind.name, kind.label, str(error))
    return foreign(header, "unknown", "Unknown", _unknown(header))


def _asked(families: Mapping[str, Family], name: str) -> tuple[Family, ...]:
    if not name:
        return tuple(families.values())
    if name not in families or not families[name].predictions:
        models = ", ".join(each for each, kind in families.items() if kind.predictions)
        raise RequestError("family", f"there is no family {name!r}", accepted=models)
    return (families[name],)


def _taken_as(info: ModelInfo, kind: Family, prediction: str, variant: str | None) -> ModelInfo:
    if prediction:
        if prediction not in kind.predictions:
            accepted = ", ".join(kind.predictions)
            raise RequestError("prediction", f"{kind.label} has no {prediction!r}", accepted=accepted)
        info = replace(info, prediction=prediction)
    if variant is not None:
        if variant not in kind.variants:
            accepted = ", ".join(each or "an empty text (the plain model)" for each in kind.variants)
            raise RequestError("variant", f"{kind.label} has no {variant!r}", accepted=accepted)
        info = replace(info, variant=variant)
    return info


def foreign(header: Header, name: str, label: str, problem: str, *, variant: str = "") -> ModelInfo:
    """The description of a file that is recognised and cannot be loaded: `problem` says why."""
    return ModelInfo(
        name=header.stem,
        path=str(header.path),
        family=name,
        label=label,
        supported=False,
        problem=problem,
        variant=variant,
        dtype="",
        components=(),
        size=header.size,
        mtime_ns=header.mtime_ns,
        metadata=header.metadata,
    )


def part_of_several(header: Header) -> str:
    """What a file is, by its name, whose model is split over several; "" for a whole one."""
    found = _PART.search(header.path.stem)
    if found is None or header.configs or int(found[2]) < 2:
        return ""
    count = f"part {int(found[1])} of {int(found[2])}"
    return f"this is {count} of a model that is split over several files: it is read from its whole folder only."


_PART = re.compile(r"-(\d{5})-of-(\d{5})$")


def _unknown(header: Header) -> str:
    """What can be said of a file that no family knows: how its tensors are named, and how many begin so."""
    if not header.tensors:
        return "the file holds no tensors."
    count = len(header.tensors)
    groups = Counter(_group(name) for name in header.tensors)
    first: dict[str, str] = {}
    for name in sorted(header.tensors, key=len):
        first.setdefault(_group(name), name)
    common = groups.most_common(_GROUPS)
    shown = ", ".join(f"{first[group]} ({times} under {group})" if times > 1 else group for group, times in common)
    more = f" and {len(groups) - _GROUPS} more groups" if len(groups) > _GROUPS else ""
    kind = "tensor is" if count == 1 else "tensors are"
    return f"this is no model that Inferenz knows. Its {count:,} {kind} named like {shown}{more}."


def _group(name: str) -> str:
    """A tensor's name up to its first number, which stands for all: layers.0.wq -> layers.*; else in two steps."""
    steps = name.split(".")
    first = next((place for place, step in enumerate(steps) if step.isdigit()), None)
    if first is not None:
        return ".".join((*steps[:first], "*")) if first else ".".join(("*", *steps[1:2]))
    return name if len(steps) <= 2 else ".".join((*steps[:2], "*"))


_GROUPS = 4  # shown of an unknown file's
