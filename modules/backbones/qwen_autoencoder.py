"""Qwen-Image's VAE: one of videos (Wan 2.1's), which a picture is a single frame of.

It halves the sides three times, as KL autoencoders do; each of its 16 channels has a mean and a deviation of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from modules.backbones.autoencoder import SMALLEST_TILE, TILE, Autoencoder

_SIZES = (
    "tile_sample_min_height", "tile_sample_min_width", "tile_sample_stride_height", "tile_sample_stride_width",
)  # fmt: skip


class QwenAutoencoder(Autoencoder):
    """A loaded AutoencoderKLQwenImage, whose configuration holds mean and deviation."""

    def _measures(self, config: Any) -> tuple[int, int]:
        return int(config.z_dim), 2 ** len(config.temperal_downsample)  # sic, in diffusers

    def _mean(self, vae: Any, pixels: Tensor) -> Tensor:
        mean: Tensor = vae.encode(pixels.unsqueeze(2), return_dict=False)[0].mean
        return mean.squeeze(2)

    def _picture(self, vae: Any, latent: Tensor) -> Tensor:
        frames: Tensor = vae.decode(latent.unsqueeze(2), return_dict=False)[0]
        return frames.squeeze(2)

    @contextmanager
    def _tiling(self, vae: Any, latent: Tensor) -> Iterator[None]:
        """See `Autoencoder`; here a stride is given, three quarters of a tile."""
        before = vae.use_tiling, [getattr(vae, name) for name in _SIZES]
        side = max(SMALLEST_TILE, min(TILE, max(latent.shape[-2:]) // 2 // 4 * 4)) * self.downscale
        vae.use_tiling = True
        for name, size in zip(_SIZES, (side, side, side * 3 // 4, side * 3 // 4), strict=True):
            setattr(vae, name, size)
        try:
            yield
        finally:
            vae.use_tiling = before[0]
            for name, size in zip(_SIZES, before[1], strict=True):
                setattr(vae, name, size)
