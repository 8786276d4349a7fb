"""How a model is put together from its file and those of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage
from torch import Tensor, nn

from modules.backbones.autoencoder import Autoencoder, Scaled
from modules.backbones.encoders.clip import PROJECTION, SD1, Chunker, ClipEncoder, Layer, load_clip
from modules.backbones.encoders.qwen import Kind, QwenEncoder, load_qwen
from modules.backbones.encoders.t5 import T5Encoder, load_t5
from modules.backbones.loaded import Built
from modules.backbones.placing import arena_of, home, put, turns_of
from modules.backbones.qwen_autoencoder import QwenAutoencoder
from modules.backbones.weights import Storage, fill, map_tensors, read_described, skeleton
from modules.core.checkpoint import MODEL_INDEX, Header, ModelInfo, Names, Separate
from modules.core.errors import UnsupportedCheckpoint
from modules.core.family import Family, Part
from modules.diffusion.arena import Arena
from modules.diffusion.backbone import Load, Placement
from modules.families.layouts.parts import TEXT, TRANSFORMER, VAE, sort_parts, text_parts, vae_parts
from modules.prompting.qwen import Template

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """A file with a part of a model in it. alone: the file is a text encoder's or VAE's, not a checkpoint."""

    info: ModelInfo
    component: str
    alone: bool = False

    @property
    def config(self) -> Mapping[str, Any]:
        """The keyword arguments of the part's class."""
        return self.info.config[self.component]

    def names(self, header: Header) -> Names:
        """The part's table in the file with that header. Raises CorruptCheckpoint."""
        sort = (vae_parts if self.component == VAE else text_parts) if self.alone else sort_parts
        return sort(header).of(self.component)


class Assembly:
    """A model while it is put together. All of its files are looked for, and the header of each is read, before the
    first one is mapped.

    turns, arena: what its parts share, see `Built`.
    """

    def __init__(self, family: Family, info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> None:
        """Raises UnsupportedCheckpoint where a part is missing or does not fit, and what `read_described` does."""
        self.info, self.separate, self.placement = info, separate, placement
        self.turns, self.arena = turns_of(placement), arena_of(placement)
        found = {part.name: self._file(part) for part in family.needs(info.variant)}
        self._files = {name: file for name, file in found.items() if file is not None}
        infos = {each.path: each for each in (info, *(file.info for file in self._files.values()))}
        self._headers = {path: read_described(each) for path, each in infos.items()}

    def denoiser(
        self, kind: type[Network], build: Callable[[Mapping[str, Any]], Network], component: str = TRANSFORMER
    ) -> Network:
        """The checkpoint's own network of class `kind`, ready to compute. build: see `skeleton`.

        Raises CheckpointError.
        """
        placement, file = self.placement, PartFile(info=self.info, component=component)
        network = load_network(
            kind, build, file, self._header(file), device=home(placement.unet_device, placement),
            dtype=placement.dtype, storage=placement.storage, arena=self.arena,
        )  # fmt: skip
        put(network, placement.unet_device, placement, self.turns)
        return network

    def clip(
        self, component: str, *, projected: bool, layer: Layer = SD1, tokenizer: Chunker | None = None
    ) -> ClipEncoder:
        """A CLIP text encoder, ready to compute. projected: whether its pooled vector goes through the file's own
        projection; layer: which state is read; tokenizer: see `load_clip`. Raises CheckpointError."""
        file = self._files[component]
        names = file.names(self._header(file))
        names = {name: source for name, source in names.items() if projected or name != PROJECTION}
        reader = load_clip(
            self._header(file), names, file.config, self.placement,
            layer=layer, component=component, tokenizer=tokenizer, arena=self.arena,
        )  # fmt: skip
        put(reader.module, self.placement.text_device, self.placement, self.turns)
        return reader

    def t5(self, component: str, *, length: int, masked: bool = False, spare: int = 0) -> T5Encoder:
        """A T5 encoder, ready to compute. length, masked, spare: see `T5Encoder`. Raises CheckpointError."""
        file = self._files[component]
        reader = load_t5(
            self._header(file), file.names(self._header(file)), file.config, self.placement,
            length=length, masked=masked, spare=spare, component=component, arena=self.arena,
        )  # fmt: skip
        put(reader.module, self.placement.text_device, self.placement, self.turns)
        return reader

    def qwen(self, component: str, *, kind: Kind, template: Template) -> QwenEncoder:
        """A Qwen language model, ready to compute. kind, template: see `load_qwen`. Raises CheckpointError."""
        file = self._files[component]
        reader = load_qwen(
            self._header(file), file.names(self._header(file)), file.config, self.placement,
            kind=kind, template=template, component=component, arena=self.arena,
        )  # fmt: skip
        put(reader.module, self.placement.text_device, self.placement, self.turns)
        return reader

    def qwen_autoencoder(self) -> QwenAutoencoder:
        """Qwen-Image's VAE, ready to compute. Raises CheckpointError."""
        vae, again = self._vae(AutoencoderKLQwenImage)
        scaled = Scaled(scaling=1.0).told(vae.config)
        return QwenAutoencoder(vae, self.placement, scaled=scaled, load=again, turns=self.turns)

    def autoencoder(self, scaled: Scaled) -> Autoencoder:
        """The VAE, ready to compute. scaled: the family's, where the file's configuration says nothing.

        Raises CheckpointError.
        """
        vae, again = self._vae(AutoencoderKL)
        if not (scaled.mean and self._files[VAE].alone):  # a model with latents of its own has them with any VAE
            scaled = scaled.told(self.config(VAE))
        return Autoencoder(vae, self.placement, scaled=scaled, load=again, turns=self.turns)

    def values(self, *names: str) -> tuple[tuple[float, ...], ...]:
        """Small tensors of the checkpoint that say something of it; () for one that it does not have."""
        header = self._headers[self.info.path]
        found = map_tensors(header, [name for name in names if name in header.tensors])
        given = {name: value for name, value in found.items() if isinstance(value, Tensor)}
        return tuple(tuple(given[name].float().flatten().tolist()) if name in given else () for name in names)

    def built(self, denoiser: nn.Module, autoencoder: Autoencoder, load: Load) -> Built:
        """What it has come to, the text encoders aside. load: loads such a model once more."""
        return Built(
            info=self.info, separate=self.separate, placement=self.placement, denoiser=denoiser,
            autoencoder=autoencoder, load=partial(load, self.info, self.separate), turns=self.turns, arena=self.arena,
        )  # fmt: skip

    def check_width(self, given: Mapping[str, int], wanted: int) -> None:
        """Raise UnsupportedCheckpoint where the answers of text encoders, joined, do not have the width that the
        denoiser reads. given: the width of each, by component."""
        if sum(given.values()) != wanted:
            names = tuple(dict.fromkeys(self._files[component].info.name for component in given))
            raise UnsupportedCheckpoint(
                f"{' and '.join(names)} {'give' if len(names) > 1 else 'gives'} texts a width of "
                f"{sum(given.values())} where {self.info.name} needs {wanted}.",
                hint="Choose another text encoder.",
            )

    def has(self, component: str) -> bool:
        """Whether a part is there."""
        return component in self._files

    def own(self, component: str) -> bool:
        """Whether a part comes from a folder in diffusers' layout that is the checkpoint."""
        file = self._files[component]
        return not file.alone and self._header(file).path.name == MODEL_INDEX

    def config(self, component: str) -> Mapping[str, Any]:
        """A part's configuration, wherever it comes from."""
        return self._files[component].config

    def fits(self, chosen: ModelInfo, part: Part) -> bool:
        """Whether a file of its own can be used for a part."""
        return chosen.variant == part.kind

    def _file(self, part: Part) -> PartFile | None:
        """Where a part comes from: a file of its own, or the checkpoint; None for an optional one.

        Raises UnsupportedCheckpoint where it is nowhere, or where the chosen file holds something else.
        """
        chosen: ModelInfo | None = getattr(self.separate, part.name)
        if chosen is not None:
            if not self.fits(chosen, part):
                raise UnsupportedCheckpoint(
                    f"{chosen.name} does not fit {self.info.name}, which needs a {part.label} in its place.",
                    hint=f"Choose another file, such as {part.usual}.",
                )
            return PartFile(info=chosen, component=VAE if part.name == VAE else TEXT, alone=True)
        if part.name in self.info.config:
            return PartFile(info=self.info, component=part.name)
        if part.optional:
            return None
        raise UnsupportedCheckpoint(
            f"{self.info.name} has no {part.label} of its own.", hint=f"Choose a file with one, such as {part.usual}."
        )

    def _header(self, file: PartFile) -> Header:
        return self._headers[file.info.path]

    def _vae(self, kind: type[Any]) -> tuple[Any, Callable[[Placement], Any]]:
        """The VAE, ready to compute, and what loads it once more."""
        file, placement = self._files[VAE], self.placement
        vae = load_vae(kind, file, self._header(file), self.arena, placement)
        put(vae, placement.vae_device, placement, self.turns)
        return vae, partial(load_vae, kind, file, None, self.arena)


def load_vae(kind: type[Any], file: PartFile, header: Header | None, arena: Arena | None, placement: Placement) -> Any:
    """A VAE of class `kind`; not yet put to use. header: the file's, None to read it. Raises CheckpointError."""
    where, dtype = home(placement.vae_device, placement), placement.vae_dtype
    header = header or read_described(file.info)
    return load_network(kind, lambda config: kind(**config), file, header, device=where, dtype=dtype, arena=arena)


def load_network(
    kind: type[Network],
    build: Callable[[Mapping[str, Any]], Network],
    file: PartFile,
    header: Header,
    *,
    device: torch.device,
    dtype: torch.dtype,
    storage: Storage = "file",
    arena: Arena | None = None,
) -> Network:
    """A part with its weights, on `device`; not yet put to use. build: see `skeleton`; the rest: see `fill`.

    Raises CheckpointError.
    """
    network, names = skeleton(kind, file.config, build), file.names(header)
    tensors = map_tensors(header, names.values())
    fill(
        network, tensors, names=names, device=device, dtype=dtype, source=header.path.name, storage=storage,
        arena=arena,
    )  # fmt: skip
    return network
