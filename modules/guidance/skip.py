"""Evaluations without the negative prompt: quicker, and freer where little is decided."""

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
    "skip",
    label="Skip the negative prompt",
    aliases=("ngms", "s_min_uncond"),
    options={
        "sigma": Option(default=0.0, low=0.0, high=15.0),
        "all": Option(default=0.0, low=0.0, high=1.0, whole=True),
        "early": Option(default=0.0, low=0.0, high=1.0),
    },
    rank=40,
)
def skip(inner: Guidance, *, sigma: float = 0.0, all: float = 0.0, early: float = 0.0) -> Guidance:
    """AUTOMATIC1111's three ways to leave the negative prompt out of an evaluation, which then has a scale of 1.

    sigma: "Negative Guidance minimum sigma" (s_min_uncond): below this noise level every second evaluation, the first
    being of the even ones; with `all` every one ("NGMS all steps"). early: "Ignore negative prompt during early
    sampling": evaluations up to this fraction of all. They are counted as prompts count them: a sampler of second order
    has two in each step.
    """
    return _Skip(inner, sigma, bool(all), early)


@dataclass(frozen=True)
class _Skip:
    inner: Guidance
    sigma: float
    all: bool
    early: float

    def rows(self, query: Query, call: Call) -> tuple[Row, ...]:
        return self.inner.rows(query, self._seen(query, call))

    def combine(self, query: Query, call: Call, answers: Sequence[Tensor]) -> Guided:
        return self.inner.combine(query, self._seen(query, call), answers)

    def _seen(self, query: Query, call: Call) -> Call:
        """The call as the inner guidance sees it."""
        early = self.early > 0 and call.evaluation <= self.early * call.evaluations
        late = query.sigma < self.sigma and (self.all or call.evaluation % 2 == 1)
        return replace(call, negative=None, scale=1.0) if early or late else call
