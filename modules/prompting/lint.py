"""What in a prompt is probably not meant: found from the text alone, told with its place. Nothing is ever corrected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from modules.prompting.grammar import Alternation, Edit, Tree, parse
from modules.prompting.networks import tags

Problem = Literal["unclosed", "unopened", "weight", "late", "early", "tag"]

_BRACKETS = re.compile(r"\\.|[()\[\]]", re.DOTALL)
_PARTNERS = {")": "(", "]": "["}
_WEIGHT = re.compile(r":([\d.,\s]+)\)")
_OPEN_TAG = re.compile(r"<(?:lora|lyco|hypernet):[^<>\n]{0,200}(?:$|[<\n])")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem. start, end: the characters it is about. values: what its sentence names."""

    problem: Problem
    start: int
    end: int
    values: dict[str, str] = field(default_factory=dict)


def findings(text: str, evaluations: int, *, most: int = 20) -> tuple[Finding, ...]:
    """The first problems of a text. evaluations: of the model in the whole pass."""
    found = [*_unbalanced(text), *_weights(text), *_open_tags(text), *_switches(text, evaluations)]
    return tuple(sorted(found, key=lambda each: each.start)[:most])


def _unbalanced(text: str) -> Iterator[Finding]:
    """Brackets without a partner of their shape. Round and square ones may cross, as AUTOMATIC1111 lets them."""
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for match in _BRACKETS.finditer(text):
        sign, place = match[0], match.start()
        if sign in opened:
            opened[sign].append(place)
        elif sign in _PARTNERS:
            if opened[_PARTNERS[sign]]:
                opened[_PARTNERS[sign]].pop()
            else:
                yield Finding(problem="unopened", start=place, end=place + 1, values={"sign": sign})
    for sign, places in opened.items():
        for place in places:
            yield Finding(problem="unclosed", start=place, end=place + 1, values={"sign": sign})


def _weights(text: str) -> Iterator[Finding]:
    """`(word:1,2)`, `(word:1.2.3)`: looks like a weight and is read as text."""
    for match in _WEIGHT.finditer(text):
        try:
            float(match[1])
        except ValueError:
            if re.fullmatch(r"[\d.,\s]+", match[1]):
                yield Finding(
                    problem="weight", start=match.start(1), end=match.end(1), values={"text": match[1].strip()}
                )


def _open_tags(text: str) -> Iterator[Finding]:
    """`<lora:name:1` without its end; and a tag that names nothing."""
    for match in _OPEN_TAG.finditer(text):
        yield Finding(problem="tag", start=match.start(), end=match.start() + 1, values={"text": match[0][:40].strip()})
    for tag in tags(text):
        if not tag.name.strip():
            place = text.find(f"<{tag.kind}:")
            yield Finding(problem="tag", start=place, end=place + 1, values={"text": f"<{tag.kind}:"})


def _switches(text: str, evaluations: int) -> Iterator[Finding]:
    """`[a:b:30]` in 20 steps never comes to b; `[a:b:0]` never shows a. Above 1.0 is the hires pass and is meant."""
    for edit in _edits(parse(text)):
        switch = edit.switch(evaluations)
        share = "." in edit.when and float(edit.when) > 1.0
        written = f":{edit.when}]"
        place = max(text.find(written), 0)
        span = {"start": place, "end": place + len(written)}
        if switch >= evaluations and edit.after and not share and float(edit.when) != 1.0:
            yield Finding(problem="late", values={"when": edit.when, "steps": str(evaluations)}, **span)
        if switch < 1 and edit.before:
            yield Finding(problem="early", values={"when": edit.when}, **span)


def _edits(tree: Tree) -> Iterator[Edit]:
    for node in tree:
        if isinstance(node, Edit):
            yield node
            yield from _edits(node.before)
            yield from _edits(node.after)
        elif isinstance(node, Alternation):
            for option in node.options:
                yield from _edits(option)
