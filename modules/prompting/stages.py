"""What the model sees at which evaluation: a prompt's tree resolved to texts, with AUTOMATIC1111's counting.

There the text for evaluation k (from 0) is that of the first stage whose end is not below k, and stages end at
evaluations counted from 1: the first stage lasts one evaluation longer than it says. Pictures depend on it, so it is so
here, too.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

from modules.core.errors import RequestError
from modules.prompting.grammar import Alternation, Edit, Plain, Tree, parse

MAX_PARTS = 100  # prompts that AND joins: each is encoded, and predicted at every step

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r":\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*\Z")


@dataclass(frozen=True)
class Stage:
    """A text and the last evaluation, counted from 0, that sees it."""

    until: int
    text: str


@dataclass(frozen=True)
class Stages:
    """A text over a whole pass: stages in their order, at least one."""

    stages: tuple[Stage, ...]

    def at(self, evaluation: int) -> str:
        """The text at an evaluation, counted from 0; past the last stage it is the last one's."""
        index = bisect_left(self.stages, evaluation, key=lambda stage: stage.until)
        return self.stages[min(index, len(self.stages) - 1)].text

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text once, in order of appearance."""
        return tuple(dict.fromkeys(stage.text for stage in self.stages))


@dataclass(frozen=True)
class Part:
    """One of the prompts that AND joins, and its weight in their sum."""

    stages: Stages
    weight: float = 1.0


def stages_of(text: str, evaluations: int) -> Stages:
    """The stages of a text. evaluations: of the model in the whole pass, at least 1."""
    tree = parse(text)
    ends = sorted({evaluations, *_ends(tree, evaluations)})
    found: list[Stage] = []
    for end in ends:
        stage = Stage(end, _text_at(tree, end, evaluations))
        if found and found[-1].text == stage.text:
            found.pop()
        found.append(stage)
    return Stages(tuple(found))


def parts_of(text: str, evaluations: int) -> tuple[Part, ...]:
    """The prompts joined by AND (capitals, a word of its own), each with the weight after its last colon, else 1.

    Raises RequestError as `check_parts`.
    """
    check_parts(text)
    found = []
    for each in _AND.split(text):
        weight = _WEIGHT.search(each)
        body = each[: weight.start()] if weight else each
        found.append(Part(stages_of(body.strip(), evaluations), float(weight[1]) if weight else 1.0))
    return tuple(found)


def check_parts(text: str) -> None:
    """Raises RequestError for a prompt that joins more than MAX_PARTS by AND."""
    count = 1 + sum(1 for _ in _AND.finditer(text))
    if count > MAX_PARTS:
        raise RequestError("prompt", f"joins {count:,} prompts by AND", accepted=f"at most {MAX_PARTS}")


def _ends(tree: Tree, evaluations: int) -> set[int]:
    """Evaluations, counted from 1, after which the text may be another."""
    found: set[int] = set()
    for node in tree:
        if isinstance(node, Alternation):
            found.update(range(1, evaluations + 1))
            inner = node.options
        elif isinstance(node, Edit):
            found.add(node.switch(evaluations))
            inner = (node.before, node.after)
        else:
            continue
        for each in inner:
            found |= _ends(each, evaluations)
    return {end for end in found if end >= 1}


def _text_at(tree: Tree, step: int, evaluations: int) -> str:
    """The text at evaluation `step`, counted from 1."""
    pieces = []
    for node in tree:
        match node:
            case Plain(text):
                pieces.append(text)
            case Edit(before, after):
                chosen = before if step <= node.switch(evaluations) else after
                pieces.append(_text_at(chosen, step, evaluations))
            case Alternation(options):
                pieces.append(_text_at(options[(step - 1) % len(options)], step, evaluations))
    return "".join(pieces)
