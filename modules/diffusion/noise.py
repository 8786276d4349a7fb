"""A picture's own noise: everything random in it, drawn from its seed on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torchsde import BrownianTree

# Of sigma on the Brownian path. torchsde rounds to its tolerance (this is its default), and then calls an unrounded
# sigma_max, a millionth above its rounded end, out of range.
_DIGITS = 6


class PictureNoise:
    """The `Noise` of one picture, equal on every device and in every company (AUTOMATIC1111's noise source "CPU").

    seed: 0 to 2**64 - 1. shape: of the latent, (1, C, H, W). sigmas: what the sampler runs on, strictly decreasing; its
    largest and its smallest positive one bound the Brownian path, so other steps make another path (as in k-diffusion).
    device: where the tensors are handed out. All are float32.
    """

    def __init__(
        self, seed: int, shape: Sequence[int], sigmas: Sequence[float], device: torch.device | str = "cpu"
    ) -> None:
        self._seed = seed
        self._shape = tuple(shape)
        self._range = (min(sigma for sigma in sigmas if sigma > 0), max(sigmas))
        self._device = torch.device(device)
        self._generator = torch.Generator("cpu").manual_seed(seed)
        # Drawn here, so that whoever asks first, the stream's first draw is the starting noise.
        self._initial = self._draw()
        self._tree: BrownianTree | None = None

    def initial(self) -> Tensor:
        """The starting noise, standard normal: the same at each call. Times sigmas[0] it is a sampler's first x."""
        return self._initial.clone()

    def fresh(self) -> Tensor:
        """Standard normal: the next draw of the stream that began with the starting noise."""
        return self._draw()

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """The increment of the picture's Brownian path from sigma to sigma_next, scaled to unit variance.

        The path is torchsde's virtual Brownian tree (Li et al. 2020) over sigma, seeded with the picture's seed.
        """
        low, high = sorted((sigma, sigma_next))
        span = (high - low) ** 0.5
        with _one_thread():
            if self._tree is None:
                self._tree = self._planted()
            increment: Tensor = self._tree(round(low, _DIGITS), round(high, _DIGITS)) / span
        # The path is walked from high sigma to low.
        return self._handed_out(increment if sigma < sigma_next else -increment)

    def _draw(self) -> Tensor:
        return self._handed_out(torch.randn(self._shape, generator=self._generator))

    def _handed_out(self, noise: Tensor) -> Tensor:
        """On the picture's device. Pinned, the copy is queued: nobody waits for what the device has to do before it."""
        if self._device.type != "cuda":
            return noise.to(self._device)
        return noise.pin_memory().to(self._device, non_blocking=True)

    def _planted(self) -> BrownianTree:
        from torchsde import BrownianTree  # at first use: half a second that most samplers do not need

        start, end = (round(sigma, _DIGITS) for sigma in self._range)
        return BrownianTree(t0=start, w0=torch.zeros(self._shape), t1=end, entropy=self._seed, tol=10.0**-_DIGITS)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread in here: waking others for each of the tree's small sums costs twenty times the sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
