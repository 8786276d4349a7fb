"""Guidance: which rows a prediction needs, and how their answers become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from modules.core.operations import ModelKey, Row
from modules.core.sampling import Query


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one model evaluation uses: the model and the encoded prompts, (1, tokens, width) each."""

    model: ModelKey
    text: Tensor
    negative: Tensor


@dataclass(frozen=True, kw_only=True)
class ClassifierFree:
    """Classifier-free guidance (Ho and Salimans 2022): uncond + scale * (cond - uncond).

    scale 1.0 is the conditional prediction alone, so its unconditional row is left out unless the sampler asks for it.
    """

    scale: float

    def rows(self, query: Query, call: Call) -> tuple[Row, ...]:
        """The rows of one prediction, the conditional one first."""
        conditional = Row(query.x, query.sigma, call.text, self.scale)
        if self.scale == 1.0 and not query.uncond:
            return (conditional,)
        return (conditional, Row(query.x, query.sigma, call.negative, 1.0 - self.scale))

    def combine(self, answers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(guided, unconditional) predictions of x0 from the answers to `rows`; without a second row both are equal."""
        if len(answers) == 1:
            return answers[0], answers[0]
        conditional, unconditional = answers
        if self.scale == 1.0:
            return conditional, unconditional
        return unconditional + self.scale * (conditional - unconditional), unconditional
