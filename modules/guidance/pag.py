"""Perturbed-attention guidance (PAG): away from a picture without structure."""

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
    "pag",
    label="Perturbed-attention guidance",
    options={"scale": Option(default=0.0, low=0.0, high=20.0)},
    rank=20,
)
def pag(inner: Guidance, *, scale: float = 0.0) -> Guidance:
    """Ahn et al. 2024: what the inner guidance says, + scale * (cond - cond with perturbed attention).

    In the perturbed row the self-attention of the model's middle block is the identity: every place sees itself alone.
    One row more per prompt and evaluation. The paper uses a scale of 3; it works without CFG, too.
    """
    return _Perturbed(inner, scale)


@dataclass(frozen=True)
class _Perturbed:
    inner: Guidance
    scale: float

    def rows(self, query: Query, call: Call) -> tuple[Row, ...]:
        mine = (replace(call.row(query, text, -weight * self.scale), perturbed=True) for text, weight in call.texts)
        return (*self.inner.rows(query, call), *mine)

    def combine(self, query: Query, call: Call, answers: Sequence[Tensor]) -> Guided:
        count = len(call.texts)
        guided = self.inner.combine(query, call, answers[:-count])
        perturbed = call.composed(answers[-count:], guided.unconditional)
        return replace(guided, denoised=guided.denoised + self.scale * (guided.conditional - perturbed))
