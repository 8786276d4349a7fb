"""What all loaded models have in common, whatever their family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from modules.backbones.autoencoder import Autoencoder
from modules.backbones.offload import Turns
from modules.backbones.weights import weight_bytes
from modules.core.checkpoint import ModelInfo, Separate
from modules.core.job import MemoryMode
from modules.core.operations import ModelKey
from modules.diffusion.arena import Arena
from modules.diffusion.backbone import PartName, Placement


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """What a model is put together from, its text encoders aside.

    denoiser: UNet or transformer. load(placement): the same model once more, to `upcast`. turns: with which all its
    networks were put on their devices. arena: the memory in which some of their weights are.
    """

    info: ModelInfo
    separate: Separate[ModelInfo]
    placement: Placement
    denoiser: Any
    autoencoder: Autoencoder
    load: Callable[[Placement], Any]
    turns: Turns | None = None
    arena: Arena | None = None


class Loaded:
    """A model's identity, its VAE and its end; families add how they read texts and predict."""

    def __init__(self, built: Built, encoders: Sequence[nn.Module]) -> None:
        """encoders: whatever reads texts and holds weights."""
        autoencoder, networks = built.autoencoder, (built.denoiser, *encoders)
        self.info, self.placement = built.info, built.placement
        self.key = model_key(built.info, built.separate, built.placement)
        self.latent_channels, self.downscale = autoencoder.channels, autoencoder.downscale
        self.weight_bytes = weight_bytes(*networks, *autoencoder.modules)
        self.part_bytes: Mapping[PartName, int] = {
            "denoiser": weight_bytes(*networks[:1]),
            "text": weight_bytes(*networks[1:]),
            "vae": weight_bytes(*autoencoder.modules),
        }
        self._load, self._turns, self._arena = built.load, built.turns, built.arena
        self._parts: list[nn.Module] = list(networks)
        self._autoencoder = autoencoder

    def encode_picture(self, picture: Tensor) -> Tensor:
        """See `Backbone` and `Autoencoder.encode`."""
        return self._autoencoder.encode(picture)

    def decode(self, latent: Tensor, *, fp32: bool = False, tiled: bool = False, seamless: bool = False) -> Tensor:
        """See `Backbone` and `Autoencoder.decode`."""
        return self._autoencoder.decode(latent, fp32=fp32, tiled=tiled, seamless=seamless)

    def upcast(self) -> Self:
        """The same model in float32, read from its files again: it shares nothing with this one."""
        again: Self = self._load(replace(self.placement, dtype=torch.float32, vae_dtype=torch.float32))
        return again

    def _guidance_of(self, distilled: Sequence[float | None], rows: int, usual: float) -> list[float]:
        """The guidance that each row's model is told as an input: its own, the checkpoint's default, or `usual`."""
        usual = self.info.defaults.distilled_cfg_scale or usual
        return [usual if scale is None else scale for scale in distilled or (None,) * rows]

    @property
    def bytes_there(self) -> int:
        """See `Movable`."""
        return self._turns.bytes_there if self._turns else 0

    def change(self, mode: MemoryMode) -> None:
        """See `Movable`."""
        if self._turns is None or mode == self._turns.mode:
            return
        with torch.inference_mode(False):  # weights made in inference mode could never be changed in place
            self._turns.change(mode)
        self.placement = replace(self.placement, vram=mode)

    def retreat(self) -> None:
        """See `Movable`."""
        if self._turns:
            self._turns.clear()

    def close(self) -> None:
        """Drop the weights. The object is not used afterwards."""
        parts = [*self._parts, *self._autoencoder.modules]
        self._parts.clear()
        if self._turns:
            self._turns.close()
        for part in parts:
            part.to("meta")
        self._autoencoder.forget()
        if self._arena:
            self._arena.close()


def model_key(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> ModelKey:
    """The key under which a loaded model is known."""
    dtype = str(placement.dtype).removeprefix("torch.")
    parts = {name: part.path for name, part in separate.named}
    return ModelKey(info.path, info.mtime_ns, dtype=dtype, **parts)
