"""What the engine needs of a loaded model, whatever its family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from modules.core.checkpoint import ModelInfo, Separate
from modules.core.generation import Emphasis, GenerationPlan
from modules.core.job import MemoryMode
from modules.core.operations import ModelKey, Text
from modules.core.sampling import NoiseLevels
from modules.diffusion.arena import HostPool

PartName = Literal["denoiser", "text", "vae"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the parts of a model live and in which dtype they compute; decided by `engine.placement`.

    vram: "normal" keeps all parts on `device`; "medium" brings one part (text encoder, denoiser, VAE) at a time; "low"
    brings one layer after another. *_device differ from `device` where --use-cpu says so.

    storage: of the denoiser's and text encoders' linear layers: "file" as the file packs them, "compute" unpacked,
    "fp8" rounded to 8 bits. pool: memory of the host that models use in turn; None takes fresh memory for each.
    """

    device: torch.device
    dtype: torch.dtype
    vae_dtype: torch.dtype
    text_device: torch.device
    unet_device: torch.device
    vae_device: torch.device
    vram: MemoryMode = "normal"
    storage: Literal["file", "compute", "fp8"] = "file"
    pool: HostPool | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The rows of one forward pass; see `Row` for what each field means.

    x: (N, C, H, W) float32, on any device. sigmas: (N,) float32, best on the CPU, where times are looked up. text: N
    rows. perturbed, negative, distilled: N entries, or none at all where no row has any. channels: (N, K, H, W).
    """

    x: Tensor
    sigmas: Tensor
    text: Text
    seamless: bool = False
    perturbed: tuple[bool, ...] = ()
    negative: tuple[bool, ...] = ()
    distilled: tuple[float | None, ...] = ()
    channels: Tensor | None = None


class Backbone(Protocol):
    """A loaded model. Called from the engine's one thread; not thread-safe.

    weight_bytes: of all parts as loaded. latent_channels and downscale: a picture of H x W pixels is a latent of
    (latent_channels, H / downscale, W / downscale).
    """

    key: ModelKey
    info: ModelInfo
    placement: Placement
    latent_channels: int
    downscale: int
    weight_bytes: int

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """The token texts of a prompt, one tuple per chunk of 75."""

    def noise_levels(self, width: int, height: int, shift: float | None = None) -> NoiseLevels:
        """The levels for a picture of so many pixels. shift: of a flow model, None for its own; others ignore it."""

    def encode(self, texts: Sequence[str], clip_skip: int, emphasis: Emphasis = "Original") -> list[Text]:
        """Encode prompts: a `Text` of one row for each, in the compute dtype on the denoiser's device."""

    def denoise(self, batch: Batch) -> Tensor:
        """Predict x0 of each row: (N, C, H, W) float32, on the device of `batch.x`.

        Sides of the latent that the model's patches do not divide are filled up and cut again.
        """

    def encode_picture(self, picture: Tensor) -> Tensor:
        """The latent, (N, C, H / downscale, W / downscale) float32, of (N, 3, H, W) float32 in 0..1: the mean of the
        VAE's posterior, without noise, on the VAE's device."""

    def decode(self, latent: Tensor, *, fp32: bool = False, tiled: bool = False, seamless: bool = False) -> Tensor:
        """Decode (N, C, H, W) float32 latents to (N, 3, H * downscale, W * downscale) float32 in 0..1.

        Not checked for NaN: the engine does that and asks again with fp32=True. tiled: in overlapping tiles, where
        memory is too short for the whole; near to the whole picture, not equal to it.
        """

    def upcast(self) -> Backbone:
        """The same model computing in float32 (for the retry after a NaN); shares nothing that would change self."""

    def close(self) -> None:
        """Give the memory back. The object is not used afterwards."""


@runtime_checkable
class Whole(Backbone, Protocol):
    """A loaded model that cannot be stepped from outside: it makes a picture from beginning to end by itself.

    Texts, passes and latents cannot be asked of it; those methods raise UnsupportedCheckpoint.
    """

    def run(self, plan: GenerationPlan, stepped: Callable[[int, int], None], notice: Callable[[str], None]) -> Tensor:
        """Make the picture of `plan`, which is of one: (3, H, W) float32 in 0..1; what is not finite stays so.

        stepped(step, steps): called after each step, from 1; what it raises ends the picture. notice(text): called for
        each thing of the plan that this model does not do, before the first step.
        """


@runtime_checkable
class Movable(Protocol):
    """A loaded model that can go over to another memory mode where it is. part_bytes: of the weights of each part."""

    part_bytes: Mapping[PartName, int]

    @property
    def bytes_there(self) -> int:
        """Bytes of weights that are on the device now."""

    def change(self, mode: MemoryMode) -> None:
        """Keep weights on the device as `mode` says, from now on (`placement.vram`); files are not read again.

        Raises torch's out-of-memory errors, and then nothing has changed. Where everything is on the CPU, nothing does.
        """

    def retreat(self) -> None:
        """Take off the device what is there only while it computes: another model is about to be used."""


Load = Callable[[ModelInfo, Separate[ModelInfo], Placement], Backbone]


@dataclass(frozen=True, kw_only=True)
class BackboneKind:
    """How a family is loaded. name: the family's registry name.

    load(info, separate, placement): separate describes parts to be taken from files of their own. Raises
    CheckpointError, also where the checkpoint lacks a part and none is given.
    """

    name: str
    load: Load


def backbone(name: str) -> Callable[[Load], BackboneKind]:
    """Mark a load function as the backbone of family `name`."""

    def describe(load: Load) -> BackboneKind:
        return BackboneKind(name=name, load=load)

    return describe
