"""What the transformers of flow models have in common: patches, times, noise levels, and what they cannot do.

A family's file says how texts are read and what its network is called with; everything else is here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from modules.backbones.loaded import Built, Loaded
from modules.backbones.perturbed import no_middle
from modules.core.errors import RequestError
from modules.core.generation import Emphasis
from modules.core.operations import Text
from modules.core.sampling import NoiseLevels
from modules.diffusion.backbone import Batch
from modules.diffusion.parameterisation import to_denoised


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a network is shown in one pass, on its device.

    x: (N, C, H, W) in the compute dtype, with sides that the patches divide. times: (N,) float32, the sigmas. tokens:
    (N, T, width) and pooled: (N, P) in the compute dtype, mask: (N, T) bool, all as in `Text`. distilled, negative: as
    in `Batch`. channels: (N, K, H, W) in the compute dtype, filled up as x is.
    """

    x: Tensor
    times: Tensor
    tokens: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None
    distilled: tuple[float | None, ...] = ()
    negative: tuple[bool, ...] = ()
    channels: Tensor | None = None


class FlowTransformer(Loaded, ABC):
    """A loaded flow model that sees a latent as patches and predicts n - x0: the engine's `Backbone`.

    patch: latent pixels along a side of a patch. scheduler: the family's, for what the checkpoint's own
    config["scheduler"] does not say; see `shift_of`.
    """

    patch = 2
    scheduler: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, built: Built, encoders: Sequence[nn.Module]) -> None:
        super().__init__(built, encoders)
        self._transformer: Any = built.denoiser

    def noise_levels(self, width: int, height: int, shift: float | None = None) -> NoiseLevels:
        """The levels for a picture of so many pixels, with the person's shift or the model's own.

        The time at which the last step is to begin belongs to the model's own.
        """
        own = self.info.defaults.shift if shift is None else shift
        if own is not None:
            return NoiseLevels.flow(own, family=self.info.family)
        scheduler = self._scheduler
        shift, terminal = shift_of(scheduler, self._patches(width, height)), scheduler.get("shift_terminal") or 0.0
        return NoiseLevels.flow(shift, family=self.info.family, terminal=float(terminal))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], clip_skip: int, emphasis: Emphasis = "Original") -> list[Text]:
        """Encode prompts, one pass each, so that a text's encoding never depends on its company."""
        device, dtype = self.placement.unet_device, self.placement.dtype
        found = []
        for text in texts:
            read = self._read(text, clip_skip, emphasis)
            pooled = None if read.pooled is None else read.pooled.to(device=device, dtype=dtype)
            mask = None if read.mask is None else read.mask.to(device)
            found.append(Text(read.tokens.to(device=device, dtype=dtype), pooled, mask, read.joins, read.notice))
        return found

    @torch.inference_mode()
    def denoise(self, batch: Batch) -> Tensor:
        """Predict x0, (N, C, H, W) float32 on the device of the batch's latents.

        Raises RequestError for a seamless picture and for perturbed rows, which these networks have no place for.
        """
        if batch.seamless:
            raise no_seams(self.info.label)
        if any(batch.perturbed):
            raise no_middle(self.info.label)
        device, dtype, x, text = self.placement.unet_device, self.placement.dtype, batch.x, batch.text
        pinned = batch.sigmas.is_pinned()  # the copies are queued behind the device's work then, and nothing waits
        pooled = None if text.pooled is None else text.pooled.to(device=device, dtype=dtype)
        seen = Seen(
            x=whole_patches(x, self.patch).to(device=device, dtype=dtype),
            times=batch.sigmas.to(device, non_blocking=pinned),
            tokens=text.tokens.to(device=device, dtype=dtype),
            pooled=pooled,
            mask=None if text.mask is None else text.mask.to(device),
            distilled=batch.distilled,
            negative=batch.negative,
            channels=self._channels(batch),
        )
        output = self._predict(seen)[..., : x.shape[-2], : x.shape[-1]]
        levels = batch.sigmas.to(x.device, non_blocking=pinned)
        return to_denoised("flow", x, output.to(device=x.device, dtype=torch.float32), levels)

    @abstractmethod
    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """See `Backbone`."""

    @abstractmethod
    def _read(self, text: str, clip_skip: int, emphasis: Emphasis) -> Text:
        """One text as the network is shown it, on whatever device and in whatever dtype it was read."""

    @abstractmethod
    def _predict(self, seen: Seen) -> Tensor:
        """The network's n - x0, shaped like `seen.x`."""

    def _nothing(self, x: Tensor) -> Tensor | None:
        """What a model with further channels sees beside (N, C, H, W) latents where a picture is made of nothing."""
        return None

    @property
    def _scheduler(self) -> Mapping[str, Any]:
        return {**self.scheduler, **self.info.config.get("scheduler", {})}

    def _patches(self, width: int, height: int) -> int:
        side: int = self.patch * self.downscale
        return math.ceil(width / side) * math.ceil(height / side)

    def _channels(self, batch: Batch) -> Tensor | None:
        channels = self._nothing(batch.x) if batch.channels is None else batch.channels
        if channels is None:
            return None
        device, dtype = self.placement.unet_device, self.placement.dtype
        return whole_patches(channels, self.patch).to(device=device, dtype=dtype)


def shift_of(scheduler: Mapping[str, Any], patches: int) -> float:
    """How far noise levels lean to the noisy side (see `NoiseLevels.flow`), by a scheduler's configuration.

    patches: how many the network sees. Where use_dynamic_shifting is set, mu, the logarithm of the shift, is linear in
    them, through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift); the names and numbers are those
    of diffusers' FlowMatchEulerDiscreteScheduler and of Flux (Black Forest Labs 2024, `get_schedule`).
    """
    if not scheduler.get("use_dynamic_shifting"):
        return float(scheduler.get("shift", 1.0))
    low, high = scheduler.get("base_image_seq_len", 256), scheduler.get("max_image_seq_len", 4096)
    start, end = scheduler.get("base_shift", 0.5), scheduler.get("max_shift", 1.15)
    mu = start + (end - start) * (patches - low) / (high - low)
    return math.exp(mu) if scheduler.get("time_shift_type", "exponential") == "exponential" else float(mu)


def whole_patches(x: Tensor, patch: int) -> Tensor:
    """(N, C, H, W) with sides that `patch` divides, filled up at the bottom and right by what is at the other side.

    So the added pixels are noise of the same level, and none is its neighbour's copy.
    """
    height, width = x.shape[-2:]
    down, right = -height % patch, -width % patch
    return functional.pad(x, (0, right, 0, down), mode="circular") if down or right else x


def packed(x: Tensor, patch: int = 2) -> Tensor:
    """(N, C, H, W) as a sequence of patches, (N, H / patch * W / patch, C * patch * patch), rows first.

    Within a patch the channel varies slowest, as Flux and its relations order it.
    """
    n, channels, height, width = x.shape
    split = x.reshape(n, channels, height // patch, patch, width // patch, patch)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, channels * patch * patch)


def unpacked(patches: Tensor, height: int, width: int, patch: int = 2) -> Tensor:
    """The inverse of `packed`, for latents of that height and width."""
    n, _, values = patches.shape
    split = patches.reshape(n, height // patch, width // patch, values // patch**2, patch, patch)
    return split.permute(0, 3, 1, 4, 2, 5).reshape(n, -1, height, width)


def places(rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows * columns, 3): where each patch lies, as rotary embeddings are told: 0, row, column. A text lies at 0."""
    grid = torch.zeros(rows, columns, 3, device=device)
    grid[..., 1] = torch.arange(rows, device=device)[:, None]
    grid[..., 2] = torch.arange(columns, device=device)[None, :]
    return grid.reshape(-1, 3)


def no_seams(label: str) -> RequestError:
    """The error for a picture that is to go on over its edges: a transformer's patches know where they are."""
    return RequestError(
        "tiling", f"{label} cannot make seamless pictures", accepted="off, or a Stable Diffusion 1, 2 or XL model"
    )
