"""From what a variance-preserving model predicts to x0, with noise levels in the variance-exploding form.

x = x0 + sigma * n. The model was trained on x / sqrt(sigma^2 + 1) (Karras et al. 2022, table 1, column "iDDPM + DDIM",
and Salimans & Ho 2022 for v). All in float32, whatever the model computes in.
"""

from __future__ import annotations

from torch import Tensor

from modules.core.errors import UnsupportedCheckpoint


def scale_input(x: Tensor, sigmas: Tensor) -> Tensor:
    """What the model sees: x / sqrt(sigma^2 + 1). x: (N, C, H, W); sigmas: (N,) on the device of x."""
    return x / _rows(sigmas.square() + 1).sqrt()


def to_denoised(prediction: str, x: Tensor, output: Tensor, sigmas: Tensor) -> Tensor:
    """x0 from the model's output. prediction: "epsilon" (the noise n) or "v" (alpha * n - sigma' * x0)."""
    sigma = _rows(sigmas)
    if prediction == "epsilon":
        return x - sigma * output
    if prediction == "v":
        variance = sigma.square() + 1
        return x / variance - output * (sigma / variance.sqrt())
    raise UnsupportedCheckpoint(f"A model that predicts {prediction!r} is not supported.", hint="Known: epsilon and v.")


def _rows(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
