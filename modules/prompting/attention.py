"""AUTOMATIC1111's attention grammar: text with brackets -> pieces of text with weights.

    (x)       x weighs 1.1 times as much        [x]      x weighs 1 / 1.1 times as much
    (x:1.3)   x weighs 1.3 times as much        \\( \\) \\[ \\] \\\\   the character itself
    BREAK     a new chunk begins here (capitals, a word of its own)

Brackets nest and multiply; one that is never closed reaches to the end; one that closes nothing is text. A lone
backslash is dropped. Round and square brackets may cross, and each counts where it is open. All other notations
(editing, alternation, AND, network tags) are text here: they are resolved to plain text of this grammar before it.

One deliberate difference: BREAK inside brackets breaks; AUTOMATIC1111 takes it there for a word of negative weight.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

ROUND_FACTOR = 1.1
SQUARE_FACTOR = 1 / 1.1
MAX_WEIGHT = (
    1e6  # thousands of nested brackets must not overflow: 1e6 is far beyond any picture and safe in float16 sums
)

_LEXEMES = re.compile(
    r"""
    \\[()\[\]\\]                        # an escaped character
  | \\                                  # a lone backslash
  | :\s*(?P<weight>[+-]?[.\d]+)\s*\)    # the end of (x:1.3)
  | [()\[\]:]
  | [^\\()\[\]:]+
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True)
class Piece:
    """A run of text of one weight (1.0 is plain)."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Break:
    """The next piece begins a new chunk."""


@dataclass
class _Group:
    """A pair of brackets. parent: the group of the same shape around it; factor: its own."""

    parent: int
    factor: float


@dataclass(frozen=True)
class _Run:
    """Text (None: BREAK) with the innermost round and square group it stands in."""

    text: str | None
    round: int
    square: int


class _Brackets:
    """The groups of one bracket shape. Group 0 is the whole text."""

    def __init__(self, factor: float) -> None:
        self._default = factor
        self._groups = [_Group(0, 1.0)]
        self.open = 0

    def begin(self) -> None:
        self._groups.append(_Group(self.open, self._default))
        self.open = len(self._groups) - 1

    def end(self, factor: float | None = None) -> None:
        group = self._groups[self.open]
        group.factor = self._default if factor is None else factor
        self.open = group.parent

    def products(self) -> list[float]:
        """Each group's factor times all around it. One pass, because a parent opens before its children."""
        products = [1.0]
        for group in self._groups[1:]:
            products.append(_clamp(products[group.parent] * group.factor))
        return products


def parse_attention(text: str) -> tuple[Piece | Break, ...]:
    """Split `text` into weighted pieces and breaks; no text is an error. Neighbours of equal weight are one piece."""
    rounds, squares = _Brackets(ROUND_FACTOR), _Brackets(SQUARE_FACTOR)
    runs: list[_Run] = []
    for lexeme in _LEXEMES.finditer(text):
        token = lexeme.group()
        weight = _number(lexeme["weight"])
        if token.startswith("\\"):
            runs.append(_Run(token[1:], rounds.open, squares.open))
        elif token == "(":
            rounds.begin()
        elif token == "[":
            squares.begin()
        elif weight is not None and rounds.open:
            rounds.end(weight)
        elif token == ")" and rounds.open:
            rounds.end()
        elif token == "]" and squares.open:
            squares.end()
        elif lexeme["weight"] and rounds.open:  # (x:1.2.3) names no number: the text stays, the bracket closes
            runs.append(_Run(token[:-1], rounds.open, squares.open))
            rounds.end()
        else:
            for index, part in enumerate(_between_breaks(token)):
                if index:
                    runs.append(_Run(None, rounds.open, squares.open))
                runs.append(_Run(part, rounds.open, squares.open))
    return _merge(runs, rounds.products(), squares.products())


def _between_breaks(text: str) -> list[str]:
    """The texts before, between and after BREAKs, without the blanks next to these.

    Stripped, not matched: an expression for blanks before a word takes quadratic time on blanks that no word follows.
    """
    first, *others = _BREAK.split(text)
    if not others:
        return [first]
    *inner, last = others
    return [first.rstrip(), *(part.strip() for part in inner), last.lstrip()]


def _merge(runs: list[_Run], rounds: list[float], squares: list[float]) -> tuple[Piece | Break, ...]:
    merged: list[Piece | Break] = []
    texts: list[str] = []
    current = 1.0

    def flush() -> None:
        joined = "".join(texts)
        if joined:
            merged.append(Piece(joined, current))
        texts.clear()

    for run in runs:
        if run.text is None:
            flush()
            merged.append(Break())
            continue
        weight = _clamp(rounds[run.round] * squares[run.square])
        if weight != current:
            flush()
            current = weight
        texts.append(run.text)
    flush()
    return tuple(merged)


def _number(text: str | None) -> float | None:
    """The weight that `text` names, or None where it names no finite number ("1.2.3", a lone dot)."""
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _clamp(weight: float) -> float:
    return min(max(weight, -MAX_WEIGHT), MAX_WEIGHT)
