"""CFG rescale: guidance that leaves the prediction's contrast as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modules.core.guidance import Call, Guidance, Guided, guidance
from modules.core.operations import Row
from modules.core.sampling import Option, Query

if TYPE_CHECKING:
    from torch import Tensor


@guidance(
    "rescale",
    label="CFG rescale",
    aliases=("cfg rescale", "rescale cfg", "guidance rescale"),
    options={"phi": Option(default=0.0, low=0.0, high=1.0)},
    rank=30,
)
def rescale(inner: Guidance, *, phi: float = 0.0) -> Guidance:
    """Lin et al. 2023, section 3.4: the guided velocity gets the standard deviation of the prompt's own.

    phi: how much of that, 0 to 1; the paper uses 0.7. As there, it is the velocity that is rescaled, whatever the model
    predicts: the noise of an epsilon model has a deviation of about 1 at any scale, and rescaling it would do little.
    """
    return _Rescale(inner, phi)


@dataclass(frozen=True)
class _Rescale:
    inner: Guidance
    phi: float

    def rows(self, query: Query, call: Call) -> tuple[Row, ...]:
        return self.inner.rows(query, call)

    def combine(self, query: Query, call: Call, answers: Sequence[Tensor]) -> Guided:
        guided = self.inner.combine(query, call, answers)
        if guided.denoised is guided.conditional:
            return guided
        # v = (x - (1 + sigma^2) x0) / (sigma * sqrt(1 + sigma^2)); what it is divided by cancels out
        variance = 1.0 + query.sigma**2
        ours, theirs = (query.x - variance * x0 for x0 in (guided.denoised, guided.conditional))
        factor = self.phi * (_deviation(theirs) / _deviation(ours)) + (1.0 - self.phi)
        return replace(guided, denoised=(query.x - factor * ours) / variance)


def _deviation(x: Tensor) -> Tensor:
    """(1, 1, 1, 1): over channels and pixels."""
    return x.std(dim=(1, 2, 3), keepdim=True)
