"""What the engine needs of a loaded model, whatever its family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from modules.core.checkpoint import ModelInfo, Separate
from modules.core.generation import Emphasis
from modules.core.operations import ModelKey
from modules.core.sampling import NoiseLevels


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the parts of a model live and in which dtype they compute; decided by `engine.placement`.

    vram: "normal" keeps all parts on `device`; "medium" brings one part (text encoder, UNet, VAE) at a time; "low"
    brings the UNet block by block. *_device differ from `device` where --use-cpu says so.
    """

    device: torch.device
    dtype: torch.dtype
    vae_dtype: torch.dtype
    text_device: torch.device
    unet_device: torch.device
    vae_device: torch.device
    vram: Literal["normal", "medium", "low"] = "normal"


class Backbone(Protocol):
    """A loaded model. Called from the engine's one thread; not thread-safe.

    weight_bytes: of all parts as loaded. latent_channels and downscale: a picture of H x W pixels is a latent of
    (latent_channels, H / downscale, W / downscale).
    """

    key: ModelKey
    info: ModelInfo
    placement: Placement
    levels: NoiseLevels
    latent_channels: int
    downscale: int
    weight_bytes: int

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """The token texts of a prompt, one tuple per chunk of 75."""

    def encode(self, texts: Sequence[str], clip_skip: int, emphasis: Emphasis = "Original") -> list[Tensor]:
        """Encode prompts. Returns per text (1, 77 * chunks, width) in the compute dtype on the UNet's device."""

    def denoise(
        self, x: Tensor, sigmas: Tensor, text: Tensor, *, seamless: bool = False, perturbed: Sequence[bool] = ()
    ) -> Tensor:
        """Predict x0. x: (N, C, H, W) float32; sigmas: (N,) float32; text: (N, T, width). Returns float32 like x.

        seamless: of a picture that goes on over its edges. perturbed: N flags, or none at all; see `Row.perturbed`.
        """

    def decode(self, latent: Tensor, *, fp32: bool = False, tiled: bool = False, seamless: bool = False) -> Tensor:
        """Decode (N, C, H, W) float32 latents to (N, 3, H * 8, W * 8) float32 in 0..1 on the CPU or device.

        Not checked for NaN: the engine does that and asks again with fp32=True. tiled: in overlapping tiles, where
        memory is too short for the whole; near to the whole picture, not equal to it.
        """

    def upcast(self) -> Backbone:
        """The same model computing in float32 (for the retry after a NaN); shares nothing that would change self."""

    def close(self) -> None:
        """Give the memory back. The object is not used afterwards."""


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
