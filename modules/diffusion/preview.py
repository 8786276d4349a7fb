"""What a latent looks like, without its VAE: quick enough to look on while it becomes a picture.

`LatentColours` is a linear map fitted to the model's own VAE, so it holds for a model whose VAE is unlike any other's.
`TinyDecoder` is TAESD (Bohan 2023), used where its file lies in a folder and it agrees with the VAE better than that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from modules.core.checkpoint import read_header
from modules.core.errors import NotAMatch
from modules.diffusion.backbone import Backbone

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBE_SIDE = 8  # latent pixels: 64 x 64 picture pixels, a fortieth of a step's work at 512 x 512
PROBES = 3  # invented latents at least; see `probe_latents`
PROBE_WEIGHT = 0.02  # of an invented latent against a real result's
RESULTS = 8  # real results that still sharpen the fit
RIDGE = 1e-3


class Renderer(Protocol):
    """Turns a latent into a small picture. May be called from a thread beside the engine's."""

    def render(self, latent: Tensor) -> NDArray[np.uint8]:
        """latent: (1, C, h, w) float32 on the CPU. Returns (h * k, w * k, 3)."""


class LatentColours:
    """Colour as a linear function of a latent pixel's channels, by least squares with a little ridge.

    Latent channels of a KL autoencoder are near linear in the mean colour of the patch they stand for.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.results = 0
        self._lock = Lock()
        self._gram = np.eye(channels + 1) * RIDGE
        self._moment = np.zeros((channels + 1, 3))
        self._moment[-1] = 0.5 * RIDGE  # with nothing observed: medium grey
        self._factors = np.linalg.solve(self._gram, self._moment)

    def observe(self, latent: Tensor, rgb: NDArray[np.uint8], *, weight: float = 1.0) -> None:
        """Learn from a latent (1, C, h, w) and its picture (h * k, w * k, 3). What is not finite is left out."""
        values = latent.detach().float().cpu().numpy()[0]
        channels, height, width = values.shape
        if not np.isfinite(values).all():
            return
        scale = rgb.shape[0] // height
        patches = rgb[: height * scale, : width * scale].reshape(height, scale, width, scale, 3)
        target = patches.mean(axis=(1, 3), dtype=np.float64).reshape(-1, 3) / 255.0
        features = np.concatenate([values.reshape(channels, -1).T, np.ones((height * width, 1))], axis=1)
        share = weight / len(features)
        with self._lock:
            self._gram += share * features.T @ features
            self._moment += share * features.T @ target
            self._factors = np.linalg.solve(self._gram, self._moment)

    @property
    def wanting(self) -> bool:
        """Whether finished pictures are still learnt from."""
        return self.results < RESULTS

    def learn(self, latent: Tensor, rgb: NDArray[np.uint8]) -> None:
        """Learn from a finished picture, while there were only few of them."""
        if self.wanting:
            self.results += 1
            self.observe(latent, rgb)

    def render(self, latent: Tensor) -> NDArray[np.uint8]:
        """latent: (1, C, h, w) float32 on the CPU. Returns (h, w, 3)."""
        values = np.nan_to_num(latent.numpy()[0].transpose(1, 2, 0), posinf=0.0, neginf=0.0)
        factors = self._factors
        rgb = values @ factors[:-1].astype(np.float32) + factors[-1].astype(np.float32)
        return np.asarray(np.clip(rgb * 255.0 + 0.5, 0, 255), dtype=np.uint8)


class TinyDecoder:
    """TAESD's decoder. device: where it computes. Thread-safe as torch modules in inference are."""

    def __init__(self, decoder: torch.nn.Module, device: torch.device, side: int) -> None:
        self._decoder = decoder.eval().requires_grad_(False).to(device)
        self._device = device
        self._side = side

    def render(self, latent: Tensor) -> NDArray[np.uint8]:
        """latent: (1, C, h, w) float32, shrunk first to the asked side. Returns (h * 8, w * 8, 3)."""
        with torch.inference_mode():
            small = torch.nan_to_num(shrunk(latent, self._side)).to(self._device)
            rgb = self._decoder(small)[0].float() * 0.5 + 0.5
            return as_pixels(rgb).cpu().numpy()


def as_pixels(rgb: Tensor) -> Tensor:
    """(3, H, W) in 0..1 to (H, W, 3) uint8 on the same device."""
    return rgb.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def shrunk(latent: Tensor, side: int) -> Tensor:
    """The latent, averaged down until its longer side is at most `side`."""
    height, width = latent.shape[-2:]
    if max(height, width) <= side:
        return latent
    factor = side / max(height, width)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return torch.nn.functional.adaptive_avg_pool2d(latent, size)


def renderer_for(backbone: Backbone, taesd: str = "", *, side: int = 64) -> tuple[LatentColours, Renderer]:
    """Fit the model's colours on a few invented latents, and choose how its previews are made.

    taesd: folder that may hold TAESD files; side: latent pixels of its previews. Returns the colours, which may learn
    on, and the renderer: the colours again, or TAESD where it is nearer to the VAE than they are. Raises
    CheckpointError for a TAESD file that cannot be read.
    """
    colours = LatentColours(backbone.latent_channels)
    latents = probe_latents(backbone.latent_channels)
    device = backbone.placement.vae_device
    pictures = []
    for latent in torch.split(latents, 1):
        picture = backbone.decode(latent.to(device))
        if not bool(torch.isfinite(picture).all()):
            picture = backbone.decode(latent.to(device), fp32=True)
        pictures.append(as_pixels(picture[0].float()).cpu().numpy())
        colours.observe(latent, pictures[-1], weight=PROBE_WEIGHT)
    path = find_taesd(Path(taesd)) if taesd and backbone.latent_channels == 4 else None
    if path is None:
        return colours, colours
    tiny = TinyDecoder(load_taesd(path), device, side)
    fits = _error(tiny, latents, pictures) < _error(colours, latents, pictures)
    return colours, tiny if fits else colours


def probe_latents(channels: int) -> Tensor:
    """(N, C, 8, 8) normal latents of even quarters with a little grain: even areas tell colours best.

    N: PROBES, or as many as make more quarters than there are channels, whose factors are wanted, and a constant.
    """
    count = max(PROBES, -(-(channels + 1) // 4))
    generator = torch.Generator().manual_seed(0)
    quarters = torch.randn(count, channels, 2, 2, generator=generator)
    even = quarters.repeat_interleave(PROBE_SIDE // 2, -1).repeat_interleave(PROBE_SIDE // 2, -2)
    return even + 0.2 * torch.randn(count, channels, PROBE_SIDE, PROBE_SIDE, generator=generator)


def find_taesd(folder: Path) -> Path | None:
    """The TAESD decoder for SD1 latents in a folder, by the names under which it is spread, or None."""
    names = ("taesd_decoder.safetensors", "taesd.safetensors", "taesd/diffusion_pytorch_model.safetensors")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def load_taesd(path: Path) -> torch.nn.Module:
    """The decoder of a TAESD file, in its authors' layout or diffusers'. Raises CheckpointError."""
    from diffusers import AutoencoderTiny
    from safetensors.torch import load_file

    read_header(path)
    weights = remapped_taesd(load_file(path))
    model = AutoencoderTiny()
    try:
        model.decoder.load_state_dict(weights)
    except RuntimeError as error:
        raise NotAMatch(
            f"{path.name} is not a TAESD decoder for Stable Diffusion 1.", hint="Previews are made without it."
        ) from error
    decoder: torch.nn.Module = model.decoder
    return decoder


def remapped_taesd(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of TAESD's own layout ("3.conv.0.weight", perhaps under "decoder.") as diffusers' decoder names them.

    Its own list begins with a clamp that diffusers applies by itself, so places are one less there.
    """
    found: dict[str, Any] = {}
    for key, value in weights.items():
        if key.startswith("decoder.layers."):
            found[key.removeprefix("decoder.")] = value
        elif own := re.fullmatch(r"(?:decoder\.)?(\d+)\.(.+)", key):
            found[f"layers.{int(own[1]) - 1}.{own[2]}"] = value
    return found


def _error(renderer: Renderer, latents: Tensor, pictures: list[NDArray[np.uint8]]) -> float:
    """Mean squared difference of mean colours per latent pixel."""
    total = 0.0
    for latent, picture in zip(torch.split(latents, 1), pictures, strict=True):
        total += float(np.mean((_patches(renderer.render(latent)) - _patches(picture)) ** 2))
    return total


def _patches(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    scale = rgb.shape[0] // PROBE_SIDE
    means: NDArray[np.float64] = rgb.reshape(PROBE_SIDE, scale, PROBE_SIDE, scale, 3).mean((1, 3), dtype=np.float64)
    return means
