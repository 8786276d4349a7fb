"""A picture's own noise: everything random in it, drawn from its seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from modules.core.generation import NoiseSource, drawn_by
from modules.diffusion.brownian import BrownianTree
from modules.diffusion.sources import streams
from modules.diffusion.variation import centred, slerp

NO_GPU = (
    "There is no CUDA or XPU device here, so the noise comes from the CPU's generator, as in AUTOMATIC1111; "
    'the noise source "NV" makes the numbers of an NVIDIA card anywhere.'
)


@dataclass(frozen=True, kw_only=True)
class NoiseChoice:
    """How a picture's noise is made beside its seed; the defaults are none of it.

    source: "CPU", "GPU" (the device's own generator) or "NV" (CUDA's numbers on any device). variation_seed,
    variation_strength: a second seed, and how far towards it (0 to 1). resize: (height, width) of the latent whose
    noise is laid over the middle. ensd: added to the seed of what is drawn after the starting noise.
    """

    source: NoiseSource = "CPU"
    variation_seed: int = 0
    variation_strength: float = 0.0
    resize: tuple[int, int] | None = None
    ensd: int = 0


class PictureNoise:
    """The `Noise` of one picture, the same in every company (with the source CPU or NV also on every device).

    seed: 0 to 2**64 - 1. shape: of the latent, (1, C, H, W). sigmas: what the sampler runs on, strictly decreasing; its
    largest and its smallest positive one bound the Brownian path, so other steps make another path (as in k-diffusion).
    device: where the tensors are handed out. All are float32. notice: what the person should know, mostly "".

    The Brownian path is drawn from the same source and follows the seed alone, as in AUTOMATIC1111.
    """

    def __init__(
        self,
        seed: int,
        shape: Sequence[int],
        sigmas: Sequence[float],
        device: torch.device | str = "cpu",
        choice: NoiseChoice = NoiseChoice(),
    ) -> None:
        self._seed = seed
        self._shape = tuple(shape)
        self._range = (min(sigma for sigma in sigmas if sigma > 0), max(sigmas))
        self._device = torch.device(device)
        self.notice = NO_GPU if drawn_by(choice.source, str(self._device)) != choice.source else ""
        self._open = streams(choice.source, self._device)
        self._stream = self._open(seed)
        # Drawn here, so that whoever asks first, the stream's first draw is the starting noise.
        self._initial = self._handed_out(self._first(choice))
        if choice.ensd:
            self._stream = self._open((seed + choice.ensd) % 2**64)
        self._tree: BrownianTree | None = None

    def _first(self, choice: NoiseChoice) -> Tensor:
        """The starting noise. Of another size it comes from a stream of its own: ours gives the ground around it."""
        shape = (*self._shape[:2], *choice.resize) if choice.resize else self._shape
        apart = shape != self._shape
        noise = (self._open(self._seed) if apart else self._stream).normal(shape)
        if choice.variation_strength:
            other = self._open(choice.variation_seed).normal(shape)
            noise = slerp(choice.variation_strength, noise, other)
        return centred(noise, self._stream.normal(self._shape)) if apart else noise

    def initial(self) -> Tensor:
        """The starting noise, standard normal: the same at each call. Times sigmas[0] it is a sampler's first x."""
        return self._initial.clone()

    def fresh(self) -> Tensor:
        """Standard normal: the next draw of the stream that began with the starting noise."""
        return self._draw()

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """The increment of the picture's Brownian path from sigma to sigma_next, scaled to unit variance.

        The path is a virtual Brownian tree (Li et al. 2020) over sigma, seeded with the picture's seed.
        """
        low, high = sorted((sigma, sigma_next))
        span = (high - low) ** 0.5
        with _one_thread():
            if self._tree is None:
                start, end = self._range
                self._tree = BrownianTree(self._seed, self._shape, start=start, end=end, begin=self._open)
            increment = self._tree.increment(low, high).div_(span)
        # The path is walked from high sigma to low.
        return self._handed_out(increment if sigma < sigma_next else increment.neg_())

    def _draw(self) -> Tensor:
        return self._handed_out(self._stream.normal(self._shape))

    def _handed_out(self, noise: Tensor) -> Tensor:
        """On the picture's device. Pinned, the copy is queued: nobody waits for what the device has to do before it."""
        if self._device.type != "cuda" or noise.device.type == "cuda":
            return noise.to(self._device)
        return noise.pin_memory().to(self._device, non_blocking=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread in here: waking others for each of the tree's small sums costs twenty times the sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
