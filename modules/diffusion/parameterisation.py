"""From what a model predicts to x0. All in float32, whatever the model computes in.

Variance-preserving models have their noise levels in the variance-exploding form, x = x0 + sigma * n: they were trained
on x / sqrt(sigma^2 + 1) (Karras et al. 2022, table 1, column "iDDPM + DDIM", and Salimans & Ho 2022 for v). EDM's own
models (the same table's last column) were trained on x / sqrt(sigma^2 + data^2), with the deviation `data` of their
latents. Flow models (Lipman et al. 2023) have x = (1 - sigma) * x0 + sigma * n and are given that.
"""

from __future__ import annotations

from torch import Tensor

from modules.core.errors import UnsupportedCheckpoint


def scale_input(x: Tensor, sigmas: Tensor, data: float = 1.0) -> Tensor:
    """What the model sees: x / sqrt(sigma^2 + data^2). x: (N, C, H, W); sigmas: (N,) on the device of x."""
    return x / _rows(sigmas.square() + data**2).sqrt()


def to_denoised(prediction: str, x: Tensor, output: Tensor, sigmas: Tensor, data: float = 1.0) -> Tensor:
    """x0 from the model's output: "epsilon" (the noise n), "v" (alpha * n - sigma' * x0), "edm" (the same with the
    other sign: Karras et al. 2022, equation 7) or "flow" (n - x0)."""
    sigma = _rows(sigmas)
    if prediction in ("epsilon", "flow"):
        return x - sigma * output
    if prediction in ("v", "edm"):
        variance = sigma.square() + data**2
        change = output * (sigma * data / variance.sqrt())
        return x / (variance / data**2) + (change if prediction == "edm" else -change)
    raise UnsupportedCheckpoint(
        f"A model that predicts {prediction!r} is not supported.", hint="Known: epsilon, v, edm and flow."
    )


def _rows(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
