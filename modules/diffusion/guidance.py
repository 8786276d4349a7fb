"""Guidance: which rows a prediction needs, and how their answers become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from modules.core.operations import ModelKey, Row
from modules.core.sampling import Query


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one model evaluation uses: the model and the encoded prompts, (1, tokens, width) each.

    texts: the prompts that AND joins, each with its weight; mostly one of weight 1.
    """

    model: ModelKey
    texts: tuple[tuple[Tensor, float], ...]
    negative: Tensor
    seamless: bool = False


@dataclass(frozen=True, kw_only=True)
class ClassifierFree:
    """Classifier-free guidance (Ho and Salimans 2022): uncond + scale * (cond - uncond).

    Several prompts are composed as Liu et al. 2022 do: uncond + sum of weight_i * scale * (cond_i - uncond). Where one
    prompt's factor is 1.0, that is its conditional prediction alone, and its unconditional row is left out unless the
    sampler asks for it.
    """

    scale: float

    def rows(self, query: Query, call: Call) -> tuple[Row, ...]:
        """The rows of one prediction, the unconditional one last. Their weights are those of the sum."""
        wanted = tuple(
            Row(query.x, query.sigma, text, weight * self.scale, call.seamless) for text, weight in call.texts
        )
        if len(wanted) == 1 and wanted[0].weight == 1.0 and not query.uncond:
            return wanted
        rest = 1.0 - sum(row.weight for row in wanted)
        return (*wanted, Row(query.x, query.sigma, call.negative, rest, call.seamless))

    def combine(self, rows: Sequence[Row], answers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(guided, unconditional) predictions of x0 from the answers to `rows`; of a single row both are its answer."""
        if len(answers) == 1:
            return answers[0], answers[0]
        *conditional, unconditional = answers
        if len(conditional) == 1 and rows[0].weight == 1.0:
            return conditional[0], unconditional
        guided = unconditional
        for row, each in zip(rows, conditional, strict=False):
            guided = guided + row.weight * (each - unconditional)
        return guided, unconditional
