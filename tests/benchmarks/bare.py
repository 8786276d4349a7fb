"""Stable Diffusion with nothing around it: tokenizer, text encoder, UNet, VAE and Euler's method in one loop.

What the engine is measured against. It uses the very modules of a loaded checkpoint, so what differs is only the code
around them: no jobs, no batching, no events, no previews, no PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from modules.backbones.unet import UnetModel
from modules.prompting.clip import ClipTokenizer


class Bare:
    """One checkpoint's modules in a plain loop."""

    def __init__(self, model: UnetModel, tokenizer: ClipTokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer
        self.unet, self.text, self.vae = model._unet, model._readers[0].module, model._autoencoder.vae

    @torch.inference_mode()
    def pictures(
        self, text: str, negative: str, seeds: Sequence[int], *, side: int, sigmas: Sequence[float], cfg_scale: float
    ) -> Tensor:
        """(N, side, side, 3) uint8 on the CPU, one per seed, in one batch."""
        place, downscale = self._model.placement, self._model.downscale
        shape = (1, self._model.latent_channels, side // downscale, side // downscale)
        noise = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        x = self.sampled(noise.to(place.unet_device), self.encoded(text, negative, len(seeds)), sigmas, cfg_scale)
        scaled = (x / float(self.vae.config.scaling_factor)).to(place.vae_device, place.vae_dtype)
        decoded = self.vae.decode(scaled, return_dict=False)[0]
        rgb = (decoded.float() / 2 + 0.5).clamp(0, 1)
        pixels: Tensor = (rgb * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
        return pixels

    def encoded(self, text: str, negative: str, count: int) -> Tensor:
        """(2 * count, 77, width): each picture's text, then as many times the negative one."""
        place = self._model.placement
        found = []
        for prompt in (text, negative):
            (chunk,) = self._tokenizer.chunks(prompt)
            ids = torch.tensor([chunk.ids], device=place.text_device)
            hidden = self.text(input_ids=ids).last_hidden_state
            found.append(hidden.to(place.unet_device, place.dtype).repeat(count, 1, 1))
        return torch.cat(found)

    def sampled(self, noise: Tensor, text: Tensor, sigmas: Sequence[float], cfg_scale: float) -> Tensor:
        """The finished latents from standard normal noise."""
        levels, dtype = self._model.noise_levels(512, 512), self._model.placement.dtype
        x = noise * sigmas[0]
        for sigma, sigma_next in pairwise(sigmas):
            scaled = (torch.cat((x, x)) / (sigma**2 + 1) ** 0.5).to(dtype)
            time = torch.full((len(scaled),), levels.timestep(sigma), device=x.device)
            output = self.unet(scaled, time, encoder_hidden_states=text, return_dict=False)[0].float()
            with_text, without = output.chunk(2)
            x = x + (sigma_next - sigma) * (without + cfg_scale * (with_text - without))
        return x
