"""KL autoencoders: latents to pictures and back, whatever the family that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from modules.backbones.offload import Turns
from modules.backbones.placing import put
from modules.backbones.seamless import seamless as wrapping
from modules.diffusion.backbone import Placement

TILE = 64  # latent pixels: 512 x 512 picture pixels, which any KL autoencoder is made for
SMALLEST_TILE = 16
MARGIN = 8  # latent pixels of the opposite side around a seamless picture that is decoded in tiles


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """How the latents of a model lie: (z - shift) * scaling of the VAE's own z, which has about unit variance.

    mean, deviation: by channel, and taken out before; of few models only, together or not at all.
    """

    scaling: float
    shift: float = 0.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def told(self, config: Mapping[str, Any]) -> Scaled:
        """The same, with what a VAE's own configuration says in diffusers' words."""
        own = {name: value for name, value in config.items() if value is not None}
        return Scaled(
            scaling=float(own.get("scaling_factor", self.scaling)), shift=float(own.get("shift_factor", self.shift)),
            mean=tuple(own.get("latents_mean", self.mean)), deviation=tuple(own.get("latents_std", self.deviation)),
        )  # fmt: skip


class Autoencoder:
    """A loaded KL autoencoder. A latent z is stored as `Scaled` says. load(placement): loads it once more, for the
    retry in float32."""

    def __init__(
        self,
        vae: AutoencoderKL,
        placement: Placement,
        *,
        scaled: Scaled,
        load: Callable[[Placement], AutoencoderKL],
        turns: Turns | None = None,
    ) -> None:
        self.vae = vae
        self.channels, self.downscale = self._measures(vae.config)
        self._placement, self._load, self._turns = placement, load, turns
        self._scaled = scaled
        self._exact: AutoencoderKL | None = None

    @property
    def modules(self) -> list[nn.Module]:
        """What is loaded of it."""
        return [self.vae] if self._exact is None else [self.vae, self._exact]

    @torch.inference_mode()
    def encode(self, picture: Tensor) -> Tensor:
        """The posterior's mean, (N, C, H / downscale, W / downscale) float32, of (N, 3, H, W) in 0..1.

        Computed in float32 where it is not finite otherwise: SDXL's own VAE overflows in float16.
        """
        mean = self._encoded(picture, fp32=False)
        if self._placement.vae_dtype == torch.float16 and not mean.isfinite().all():
            mean = self._encoded(picture, fp32=True)
        return self._stored(mean)

    def _encoded(self, picture: Tensor, *, fp32: bool) -> Tensor:
        vae, dtype = self._chosen(fp32), torch.float32 if fp32 else self._placement.vae_dtype
        pixels = (picture * 2 - 1).to(device=self._placement.vae_device, dtype=dtype)
        return self._mean(vae, pixels).float()

    @torch.inference_mode()
    def decode(self, latent: Tensor, *, fp32: bool = False, tiled: bool = False, seamless: bool = False) -> Tensor:
        """Decode (N, C, H, W) float32 latents to (N, 3, H * downscale, W * downscale) float32 in 0..1, on the VAE's
        device; what is not finite stays so. tiled: in overlapping tiles of at most TILE latent pixels and half the
        longer side. seamless: the picture goes on over its edges.
        """
        if seamless and tiled:  # a tile's own edges are not the picture's: those are decoded with a margin instead
            rgb = self.decode(functional.pad(latent, (MARGIN,) * 4, mode="circular"), fp32=fp32, tiled=True)
            cut = slice(MARGIN * self.downscale, -MARGIN * self.downscale)
            return rgb[:, :, cut, cut]
        vae = self._chosen(fp32)
        dtype = torch.float32 if fp32 else self._placement.vae_dtype
        unscaled = self._unstored(latent.float())
        with self._tiling(vae, latent) if tiled else wrapping(vae, seamless):
            picture = self._picture(vae, unscaled.to(device=self._placement.vae_device, dtype=dtype))
        rgb = picture.float() / 2 + 0.5
        return torch.where(rgb.isfinite(), rgb.clamp(0, 1), rgb)  # infinity is an overflow, not white: it must be seen

    def forget(self) -> None:
        """Let go of what was loaded for a retry."""
        self._exact = None

    # -- what another class of VAE does otherwise

    def _measures(self, config: Any) -> tuple[int, int]:
        """Channels of a latent, and how many pixels a side of one of its own stands for."""
        return int(config.latent_channels), 2 ** (len(config.block_out_channels) - 1)

    def _mean(self, vae: Any, pixels: Tensor) -> Tensor:
        """The posterior's mean of (N, 3, H, W) pixels in -1..1, as the VAE has it."""
        mean: Tensor = vae.encode(pixels, return_dict=False)[0].mean
        return mean

    def _picture(self, vae: Any, latent: Tensor) -> Tensor:
        """(N, 3, H, W) pixels in -1..1 of (N, C, h, w) latents as the VAE has them."""
        picture: Tensor = vae.decode(latent, return_dict=False)[0]
        return picture

    def _stored(self, latent: Tensor) -> Tensor:
        if self._scaled.mean:
            latent = (latent - by_channel(self._scaled.mean, latent)) / by_channel(self._scaled.deviation, latent)
        return (latent - self._scaled.shift) * self._scaled.scaling

    def _unstored(self, latent: Tensor) -> Tensor:
        found = latent / self._scaled.scaling + self._scaled.shift
        if not self._scaled.mean:
            return found
        return found * by_channel(self._scaled.deviation, latent) + by_channel(self._scaled.mean, latent)

    def _chosen(self, fp32: bool) -> AutoencoderKL:
        if not fp32 or self._placement.vae_dtype == torch.float32:
            return self.vae
        if self._exact is None:
            placement = replace(self._placement, vae_dtype=torch.float32)
            self._exact = self._load(placement)
            put(self._exact, self._placement.vae_device, placement, self._turns)
        return self._exact

    @contextmanager
    def _tiling(self, vae: AutoencoderKL, latent: Tensor) -> Iterator[None]:
        """Let the VAE decode in tiles for as long as the context lasts: diffusers' own tiling, with sides that fit.

        A quarter of a tile overlaps its neighbour and is blended, so a side is a multiple of four.
        """
        before = vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size
        side = max(SMALLEST_TILE, min(TILE, max(latent.shape[-2:]) // 2 // 4 * 4))
        vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size = True, side, side * self.downscale
        try:
            yield
        finally:
            vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size = before


def by_channel(values: Sequence[float], like: Tensor) -> Tensor:
    """(1, C, 1, 1), on the device and in the dtype of `like`."""
    return torch.tensor(values, device=like.device, dtype=like.dtype).reshape(1, -1, 1, 1)
