"""Adaptive projected guidance (APG): high scales without their glaring colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modules.core.guidance import Call, Guidance, Guided, guidance
from modules.core.operations import Row
from modules.core.sampling import Option, Query

if TYPE_CHECKING:
    from torch import Tensor

PIXELS = (1, 2, 3)  # channels, rows, columns


@guidance(
    "apg",
    label="Adaptive projected guidance",
    options={
        "eta": Option(default=1.0, low=0.0, high=1.0),
        "threshold": Option(default=0.0, low=0.0, high=100.0),
        "momentum": Option(default=0.0, low=-0.95, high=0.95),
    },
    rank=10,
)
def apg(inner: Guidance, *, eta: float = 1.0, threshold: float = 0.0, momentum: float = 0.0) -> Guidance:
    """Sadat et al. 2024: cond + (scale - 1) * (cond - uncond, tamed in three ways), of predictions of x0.

    eta: how much is kept of the part that is parallel to cond and only saturates the picture; 1 is all, the paper uses
    0. threshold: the largest norm of the difference, 0 for no limit; the paper uses 7.5 with Stable Diffusion at
    512 x 512. momentum: how much of the last evaluation's difference is added; negative, the paper uses -0.75.
    """
    return _Projected(inner, eta, threshold, momentum)


@dataclass
class _Projected:
    inner: Guidance
    eta: float
    threshold: float
    momentum: float
    average: Tensor | None = field(default=None, init=False)

    def rows(self, query: Query, call: Call) -> tuple[Row, ...]:
        return self.inner.rows(query, call)

    def combine(self, query: Query, call: Call, answers: Sequence[Tensor]) -> Guided:
        guided = self.inner.combine(query, call, answers)
        if call.scale == 1.0:  # nothing pushes it, so there is nothing to tame or to remember
            return guided
        change = guided.conditional - guided.unconditional
        if self.momentum:
            change = change if self.average is None else change + self.momentum * self.average
            self.average = change
        if self.threshold:
            change = change * (self.threshold / _norm(change)).clamp(max=1.0)
        direction = guided.conditional / _norm(guided.conditional)
        parallel = (change * direction).sum(dim=PIXELS, keepdim=True) * direction
        change = (change - parallel) + self.eta * parallel
        return replace(guided, denoised=guided.conditional + (call.scale - 1.0) * change)


def _norm(x: Tensor) -> Tensor:
    """(1, 1, 1, 1): Euclidean, over channels and pixels; never 0, by which nothing can be divided."""
    return x.square().sum(dim=PIXELS, keepdim=True).sqrt().clamp(min=1e-12)
