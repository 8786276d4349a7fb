"""From what a model predicts to x0. All in float32, whatever the model computes in.

Variance-preserving models have their noise levels in the variance-exploding form, x = x0 + sigma * n: they were trained
on x / sqrt(sigma^2 + 1) (Karras et al. 2022, table 1, column "iDDPM + DDIM", and Salimans & Ho 2022 for v). Flow models
(Lipman et al. 2023) have x = (1 - sigma) * x0 + sigma * n and are given that.
"""

from __future__ import annotations

from torch import Tensor

from modules.core.errors import UnsupportedCheckpoint


def scale_input(x: Tensor, sigmas: Tensor) -> Tensor:
    """What the model sees: x / sqrt(sigma^2 + 1). x: (N, C, H, W); sigmas: (N,) on the device of x."""
    return x / _rows(sigmas.square() + 1).sqrt()


def to_denoised(prediction: str, x: Tensor, output: Tensor, sigmas: Tensor) -> Tensor:
    """x0 from the model's output: "epsilon" (the noise n), "v" (alpha * n - sigma' * x0) or "flow" (n - x0)."""
    sigma = _rows(sigmas)
    if prediction in ("epsilon", "flow"):
        return x - sigma * output
    if prediction == "v":
        variance = sigma.square() + 1
        return x / variance - output * (sigma / variance.sqrt())
    raise UnsupportedCheckpoint(
        f"A model that predicts {prediction!r} is not supported.", hint="Known: epsilon, v and flow."
    )


def _rows(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
