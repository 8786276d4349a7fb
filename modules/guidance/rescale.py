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


VELOCITY, PREDICTION, CENTRED, PATCHES = 0, 1, 2, 3


@guidance(
    "rescale",
    label="CFG rescale",
    aliases=("cfg rescale", "rescale cfg", "guidance rescale"),
    options={
        "phi": Option(default=0.0, low=0.0, high=1.0),
        "form": Option(default=VELOCITY, low=VELOCITY, high=PATCHES, whole=True),
    },
    rank=30,
)
def rescale(inner: Guidance, *, phi: float = 0.0, form: float = VELOCITY) -> Guidance:
    """Lin et al. 2023, section 3.4: the guided velocity gets the standard deviation of the prompt's own.

    phi: how much of that, 0 to 1; the paper uses 0.7. As there, it is the velocity that is rescaled, whatever the model
    predicts: the noise of an epsilon model has a deviation of about 1 at any scale, and rescaling it would do little.

    form: 0 for that; the others are of AUTOMATIC1111's extensions, which rescale the prediction of x0: 1 as CFG Rescale
    does, around 0, 2 as Neutral Prompt does, around its mean, which goes to the prompt's own by phi as well. 3 is what
    Qwen-Image's authors do at a phi of 1: the velocity again, each 2 x 2 patch brought to the length of the prompt's.
    """
    return _Rescale(inner, phi, int(form))


@dataclass(frozen=True)
class _Rescale:
    inner: Guidance
    phi: float
    form: int

    def rows(self, query: Query, call: Call) -> tuple[Row, ...]:
        return self.inner.rows(query, call)

    def combine(self, query: Query, call: Call, answers: Sequence[Tensor]) -> Guided:
        guided = self.inner.combine(query, call, answers)
        if guided.denoised is guided.conditional:
            return guided
        if self.form in (VELOCITY, PATCHES):
            ours, theirs = (call.velocity(query, x0) for x0 in (guided.denoised, guided.conditional))
            return replace(guided, denoised=call.prediction(query, self._factor(ours, theirs) * ours))
        ours, theirs = guided.denoised, guided.conditional
        factor = self._factor(ours, theirs)
        if self.form == PREDICTION:
            return replace(guided, denoised=factor * ours)
        mean = (1.0 - self.phi) * ours.mean() + self.phi * theirs.mean()
        return replace(guided, denoised=mean + factor * (ours - ours.mean()))

    def _factor(self, ours: Tensor, theirs: Tensor) -> Tensor:
        measure = _lengths if self.form == PATCHES else _deviation
        return self.phi * (measure(theirs) / measure(ours)) + (1.0 - self.phi)


def _deviation(x: Tensor) -> Tensor:
    """(1, 1, 1, 1): over channels and pixels."""
    return x.std(dim=(1, 2, 3), keepdim=True)


def _lengths(x: Tensor) -> Tensor:
    """(1, 1, H, W): of each pixel's patch, over channels and its 2 x 2 pixels; at an odd edge over those there are."""
    squares = (x * x).sum(dim=1, keepdim=True)
    for axis in (2, 3):
        squares = _paired(squares, axis)
    return squares.sqrt()


def _paired(values: Tensor, axis: int) -> Tensor:
    """Each value with that of its neighbour added, pair by pair along an axis."""
    found, whole = values.clone(), values.shape[axis] // 2 * 2
    sums = values.narrow(axis, 0, whole).unflatten(axis, (-1, 2)).sum(dim=axis + 1)
    found.narrow(axis, 0, whole).copy_(sums.repeat_interleave(2, dim=axis))
    return found
