"""What tests look at: kinds of events, pixels, and the latents that are decoded."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from modules.core.job import (
    Event,
)  # fmt: skip
from modules.engine.batcher import Trajectory
from tests.engine.small import Bench


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def pixels(png: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.float64)


def latents_of(b: Bench) -> dict[tuple[str, int], Tensor]:
    """Watch what is decoded, by job and picture."""
    found: dict[tuple[str, int], Tensor] = {}
    engine: Any = b.engine
    desk = engine._desk
    decode = desk._decode

    def spy(trajectory: Trajectory, operation: Any) -> None:
        task = trajectory.owner
        found[task.job, task.live[trajectory]._index] = operation.latent.clone()
        decode(trajectory, operation)

    desk._decode = spy
    return found


def psnr(a: Tensor, b: Tensor) -> float:
    """Of latents, against their own range; a lower bound for any smooth decoder's pictures."""
    peak = float(a.max() - a.min())
    return 10 * float(np.log10(peak**2 / max(float(((a - b) ** 2).mean()), 1e-30)))
