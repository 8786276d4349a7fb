"""How a model is put together from its file and those of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from diffusers import AutoencoderKLQwenImage
from torch import nn

from modules.backbones.autoencoder import Autoencoder, load_vae
from modules.backbones.encoders.clip import PROJECTION, SD1, ClipEncoder, Layer, load_clip
from modules.backbones.encoders.qwen import Kind, QwenEncoder, load_qwen
from modules.backbones.encoders.t5 import T5Encoder, load_t5
from modules.backbones.placing import arena_of, home, put, turns_of
from modules.backbones.qwen_autoencoder import QwenAutoencoder
from modules.backbones.weights import fill, map_tensors, read_described, skeleton
from modules.core.checkpoint import ModelInfo, Names, Separate
from modules.core.errors import UnsupportedCheckpoint
from modules.core.family import Family, Part
from modules.diffusion.backbone import Placement
from modules.families.layouts.parts import TEXT, TRANSFORMER, VAE, Parts, sort_parts, text_parts, vae_parts
from modules.prompting.qwen import Template

Network = TypeVar("Network", bound=nn.Module)

WORDS: Mapping[str, str] = {
    "clip_l": "CLIP-L text encoder", "clip_g": "CLIP-G text encoder", "t5": "T5 text encoder",
    "qwen2_5_vl": "Qwen 2.5 VL text encoder", "qwen3": "Qwen 3 text encoder",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """A file with a part of a model in it. alone: the file is a text encoder's or VAE's, not a checkpoint."""

    info: ModelInfo
    component: str
    alone: bool

    @property
    def config(self) -> Mapping[str, Any]:
        """The keyword arguments of the part's class."""
        return self.info.config[self.component]


def part_file(info: ModelInfo, separate: Separate[ModelInfo], part: Part) -> PartFile | None:
    """Where `part` of checkpoint `info` comes from: a file of its own, or the checkpoint; None for an optional one.

    Raises UnsupportedCheckpoint where it is nowhere, or where the chosen file holds something else.
    """
    chosen: ModelInfo | None = getattr(separate, part.name)
    if chosen is not None:
        if chosen.variant != part.kind:
            raise UnsupportedCheckpoint(
                f"{chosen.name} does not fit {info.name}, which needs a {said(part)} in its place.",
                hint=f"Choose another file, such as {part.usual}.",
            )
        return PartFile(info=chosen, component=VAE if part.name == VAE else TEXT, alone=True)
    if part.name in info.config:
        return PartFile(info=info, component=part.name, alone=False)
    if part.optional:
        return None
    raise UnsupportedCheckpoint(
        f"{info.name} has no {said(part)} of its own.", hint=f"Choose a file with one, such as {part.usual}."
    )


def said(part: Part) -> str:
    """A part in words."""
    return "VAE" if part.name == VAE else WORDS.get(part.kind, "text encoder")


class Assembly:
    """A model while it is put together. All of its files are looked for before the first one is mapped, and each is
    sorted once, whatever number of parts it has.

    turns, arena: what its parts share, for `Loaded`.
    """

    def __init__(self, family: Family, info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> None:
        """Raises UnsupportedCheckpoint where a part is missing or does not fit."""
        self.info, self.separate, self.placement = info, separate, placement
        self.turns, self.arena = turns_of(placement), arena_of(placement)
        self._files = {part.name: part_file(info, separate, part) for part in family.parts}
        self._sorted: dict[tuple[str, str], Parts] = {}

    def denoiser(
        self, kind: type[Network], build: Callable[[Mapping[str, Any]], Network], component: str = TRANSFORMER
    ) -> Network:
        """The checkpoint's own network of class `kind`, ready to compute. build: see `skeleton`.

        Raises CheckpointError.
        """
        placement, names = self.placement, self._names(PartFile(info=self.info, component=component, alone=False))
        network = skeleton(kind, self.info.config[component], build)
        where, dtype, source = home(placement.unet_device, placement), placement.dtype, Path(self.info.path).name
        tensors = map_tensors(self.info, names.values())
        fill(
            network, tensors, names=names, device=where, dtype=dtype, source=source, storage=placement.storage,
            arena=self.arena,
        )  # fmt: skip
        put(network, placement.unet_device, placement, self.turns)
        return network

    def clip(self, component: str, *, projected: bool, layer: Layer = SD1) -> ClipEncoder:
        """A CLIP text encoder, ready to compute. projected: whether its pooled vector goes through the file's own
        projection; layer: which state is read. Raises CheckpointError."""
        file = self._needed(component)
        names = {name: source for name, source in self._names(file).items() if projected or name != PROJECTION}
        reader = load_clip(
            file.info, names, file.config, self.placement, layer=layer, component=component, arena=self.arena
        )
        put(reader.module, self.placement.text_device, self.placement, self.turns)
        return reader

    def t5(self, component: str, *, length: int, masked: bool = False, spare: int = 0) -> T5Encoder:
        """A T5 encoder, ready to compute. length, masked, spare: see `T5Encoder`. Raises CheckpointError."""
        file = self._needed(component)
        reader = load_t5(
            file.info, self._names(file), file.config, self.placement,
            length=length, masked=masked, spare=spare, component=component, arena=self.arena,
        )  # fmt: skip
        put(reader.module, self.placement.text_device, self.placement, self.turns)
        return reader

    def qwen(self, component: str, *, kind: Kind, template: Template) -> QwenEncoder:
        """A Qwen language model, ready to compute. kind, template: see `load_qwen`. Raises CheckpointError."""
        file = self._needed(component)
        reader = load_qwen(
            file.info, self._names(file), file.config, self.placement,
            kind=kind, template=template, component=component, arena=self.arena,
        )  # fmt: skip
        put(reader.module, self.placement.text_device, self.placement, self.turns)
        return reader

    def qwen_autoencoder(self) -> QwenAutoencoder:
        """Qwen-Image's VAE, ready to compute. Raises CheckpointError."""
        file, placement = self._needed(VAE), self.placement
        again = partial(load_vae, file.info, file.alone, kind=AutoencoderKLQwenImage)
        vae = again(placement, arena=self.arena)
        put(vae, placement.vae_device, placement, self.turns)
        return QwenAutoencoder(vae, placement, scaling=1.0, load=again, turns=self.turns)

    def autoencoder(self, *, scaling: float, shift: float = 0.0) -> Autoencoder:
        """The VAE, ready to compute. scaling, shift: the family's, where the file's configuration says nothing.

        Raises CheckpointError.
        """
        file, placement = self._needed(VAE), self.placement
        again = partial(load_vae, file.info, file.alone)
        vae = again(placement, arena=self.arena)
        put(vae, placement.vae_device, placement, self.turns)
        own = {name: value for name, value in file.config.items() if value is not None}
        scaling, shift = own.get("scaling_factor", scaling), own.get("shift_factor", shift)
        return Autoencoder(vae, placement, scaling=float(scaling), shift=float(shift), load=again, turns=self.turns)

    def check_width(self, component: str, given: int, wanted: int) -> None:
        """Raise UnsupportedCheckpoint where a text encoder's answers do not have the width that the denoiser reads."""
        if given != wanted:
            raise UnsupportedCheckpoint(
                f"{self._needed(component).info.name} gives texts a width of {given} where {self.info.name} needs "
                f"{wanted}.",
                hint="Choose another text encoder.",
            )

    def has(self, component: str) -> bool:
        """Whether an optional part is there."""
        return self._files[component] is not None

    def own(self, component: str) -> bool:
        """Whether a part comes from a folder in diffusers' layout that is the checkpoint."""
        file = self._needed(component)
        return not file.alone and Path(file.info.path).name == "model_index.json"

    def _names(self, file: PartFile) -> Names:
        """A part's name table. Raises CheckpointError."""
        known = (file.info.path, file.component if file.alone else "")
        if known not in self._sorted:
            sort = (vae_parts if file.component == VAE else text_parts) if file.alone else sort_parts
            self._sorted[known] = sort(read_described(file.info))
        return self._sorted[known].of(file.component)

    def _needed(self, component: str) -> PartFile:
        file = self._files[component]
        assert file is not None, component
        return file
