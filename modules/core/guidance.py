"""Guidance: which rows a prediction needs, and how their answers become one. No torch at run time.

Every picture is guided by classifier-free guidance; what can be added to it is a kind in a file of its own, which wraps
the guidance below it and has the same two methods. The whole of them is an onion: `rows` is asked from the outside in,
`combine` comes back from the inside out. Tensors are combined by operators and methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol

from modules.core.errors import RequestError
from modules.core.operations import ModelKey, Row, Text
from modules.core.sampling import Option, Query

if TYPE_CHECKING:
    from torch import Tensor

GuidanceValues = Mapping[str, Mapping[str, float]]  # kind -> option -> value


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one model evaluation uses: the model, the encoded prompts, and the CFG scale.

    texts: the prompts that AND joins, each with its weight; mostly one of weight 1. negative None: this evaluation does
    without; the first prompt's prediction stands in its place. evaluation: counted from 0, over all steps;
    evaluations: of the whole picture, 0 where that is not known. flows: of a flow model, where x = (1 - sigma) * x0 +
    sigma * n. seamless, distilled, channels: see `Row`.
    """

    model: ModelKey
    texts: tuple[tuple[Text, float], ...]
    negative: Text | None
    scale: float = 1.0
    evaluation: int = 0
    evaluations: int = 0
    flows: bool = False
    seamless: bool = False
    distilled: float | None = None
    channels: Tensor | None = None

    def velocity(self, query: Query, x0: Tensor) -> Tensor:
        """What a velocity model would have predicted where `x0` was, times a factor that only sigma decides."""
        return query.x - self._share(query) * x0

    def prediction(self, query: Query, velocity: Tensor) -> Tensor:
        """The inverse of `velocity`."""
        return (query.x - velocity) / self._share(query)

    def _share(self, query: Query) -> float:
        """Flow models: v = (x - x0) / sigma. Others: v = (x - (1 + sigma^2) x0) / (sigma * sqrt(1 + sigma^2))."""
        return 1.0 if self.flows else 1.0 + query.sigma**2

    def row(self, query: Query, text: Text, weight: float, *, negative: bool = False) -> Row:
        """A row of this evaluation. negative: of the negative prompt."""
        return Row(
            query.x, query.sigma, text, weight, negative=negative, seamless=self.seamless,
            distilled=self.distilled, channels=self.channels,
        )  # fmt: skip

    def composed(self, answers: Sequence[Tensor], unconditional: Tensor, scale: float = 1.0) -> Tensor:
        """One prediction of each text's: unconditional + sum of scale * weight_i * (answer_i - unconditional).

        That is the composition of Liu et al. 2022; of one text at a factor of 1 it is the answer itself.
        """
        if len(self.texts) == 1 and self.texts[0][1] * scale == 1.0:
            return answers[0]
        found = unconditional
        for answer, (_, weight) in zip(answers, self.texts, strict=True):
            found = found + weight * scale * (answer - unconditional)
        return found


@dataclass(frozen=True, kw_only=True)
class Guided:
    """Predictions of x0, (1, C, H, W) each.

    denoised: the guided one, which the sampler goes on with. conditional: the prompts' own, composed at a scale of 1.
    unconditional: the negative prompt's; where its row was left out, the first prompt's.
    """

    denoised: Tensor
    conditional: Tensor
    unconditional: Tensor


class Guidance(Protocol):
    """One picture's guidance; it may remember earlier evaluations. Each `rows` is followed by its `combine`."""

    def rows(self, query: Query, call: Call) -> tuple[Row, ...]:
        """The rows of one prediction."""

    def combine(self, query: Query, call: Call, answers: Sequence[Tensor]) -> Guided:
        """What the answers to `rows(query, call)`, one x0 prediction per row, come to."""


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (Ho and Salimans 2022): uncond + scale * (cond - uncond).

    Several prompts are composed as Liu et al. 2022 do: uncond + sum of weight_i * scale * (cond_i - uncond). Where one
    prompt's factor is 1.0, that is its conditional prediction alone, and its unconditional row is left out unless the
    sampler asks for it.
    """

    def rows(self, query: Query, call: Call) -> tuple[Row, ...]:
        """The rows of one prediction, the unconditional one last. Their weights are those of the sum."""
        wanted = tuple(call.row(query, text, weight * call.scale) for text, weight in call.texts)
        if call.negative is None or (len(wanted) == 1 and wanted[0].weight == 1.0 and not query.uncond):
            return wanted
        rest = 1.0 - sum(row.weight for row in wanted)
        return (*wanted, call.row(query, call.negative, rest, negative=True))

    def combine(self, query: Query, call: Call, answers: Sequence[Tensor]) -> Guided:
        """The formula; of a single row all predictions are its answer."""
        texts = answers[: len(call.texts)]
        unconditional = answers[-1] if len(answers) > len(texts) else answers[0]
        return Guided(
            denoised=call.composed(texts, unconditional, call.scale),
            conditional=call.composed(texts, unconditional),
            unconditional=unconditional,
        )


Wrap = Callable[..., Guidance]


@dataclass(frozen=True, kw_only=True)
class GuidanceKind:
    """A guidance's description. `wrap(inner, **options)` puts it around the guidance `inner`, for one picture.

    With all options at their defaults it changes nothing, and is left out. label: as people see it. aliases: other
    names. rank: place in the list, and in the onion: a higher one lies further outside.
    """

    name: str
    label: str
    wrap: Wrap
    options: Mapping[str, Option] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    rank: int = 1000

    def checked(self, values: Mapping[str, float]) -> dict[str, float]:
        """Those of `values` that change something, in the order of `options`.

        Raises RequestError for an unknown option or a value out of range.
        """
        for name, value in values.items():
            where = f"guidance.{self.name}.{name}"
            option = self.options.get(name)
            if option is None:
                raise RequestError(where, "there is no such option", accepted=", ".join(self.options))
            if not option.low <= value <= option.high or (option.whole and value != int(value)):
                noun = "an integer" if option.whole else "a number"
                raise RequestError(
                    where, f"{value!r} is not accepted", accepted=f"{noun} from {option.low:g} to {option.high:g}"
                )
        return {
            name: float(values[name])
            for name, option in self.options.items()
            if values.get(name, option.default) != option.default
        }


def guidance(name: str, *, label: str, **description: Any) -> Callable[[Wrap], GuidanceKind]:
    """Mark a function as a guidance; the keywords are `GuidanceKind`'s fields."""

    def describe(wrap: Wrap) -> GuidanceKind:
        return GuidanceKind(name=name, label=label, wrap=wrap, **description)

    return describe


def compose(chosen: GuidanceValues, kinds: Mapping[str, GuidanceKind]) -> Callable[[], Guidance]:
    """What makes a picture's guidance: classifier-free guidance in all that is chosen.

    chosen: by registry names. Raises RequestError for names and options unknown here.
    """
    unknown = next((name for name in chosen if name not in kinds), None)
    if unknown is not None:
        raise RequestError(f"guidance.{unknown}", "there is no such guidance", accepted=", ".join(kinds))
    checked = [(kind, kind.checked(chosen[name])) for name, kind in kinds.items() if name in chosen]
    layers = [(kind, options) for kind, options in checked if options]

    def build() -> Guidance:
        start: Guidance = ClassifierFree()
        return reduce(lambda inner, layer: layer[0].wrap(inner, **layer[1]), layers, start)

    return build
