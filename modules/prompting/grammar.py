"""AUTOMATIC1111's prompt editing: text that changes while the picture is made -> a tree.

    [from:to:when]   `from` until `when`, then `to`       [to:when]   nothing, then `to`
    [from::when]     `from`, then nothing                 [a|b|c]     another one at every evaluation; [a|] with gaps

`when` is a number: whole, it counts the model's evaluations (steps; two each with samplers that ask twice); with a dot,
it is a share of them, and above 1.0 it lies in the hires pass. Everything nests. Brackets that are none of these stay
as they are: those of attention are read later, by `attention.parse_attention`, from the text of each stage.

Two deliberate differences from AUTOMATIC1111: a `|` outside of square brackets is text, where it would make the whole
prompt plain there; and notations nested more than DEPTH deep are text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

DEPTH = 100  # of notations within notations: none that anyone writes, and few enough for recursion

_LEXEMES = re.compile(r"\\.|[()\[\]:|]|[^\\()\[\]:|]+|\\", re.DOTALL)
_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)\s*")


@dataclass(frozen=True)
class Plain:
    """Text that is always there, attention brackets and backslashes included."""

    text: str


@dataclass(frozen=True)
class Edit:
    """`[before:after:when]`; when: the number as it was written."""

    before: Tree
    after: Tree
    when: str

    def switch(self, evaluations: int) -> int:
        """The last evaluation, counted from 1, that sees `before`; 0 for none. evaluations: of the whole pass."""
        value = float(self.when) * (evaluations if "." in self.when else 1)
        return int(min(value, evaluations))


@dataclass(frozen=True)
class Alternation:
    """`[a|b|c]`: at least two options, each of which may be empty."""

    options: tuple[Tree, ...]


Node = Plain | Edit | Alternation
Tree = tuple[Node, ...]


@dataclass
class _Frame:
    """An open bracket ("[", "(") or the whole text (""). parts: what stands between its separators.

    depth: how deep notations nest in it. broken: something in it is not closed, so it is no notation.
    """

    opening: str
    parts: list[deque[Node]] = field(default_factory=lambda: [deque()])
    separators: list[str] = field(default_factory=list)
    depth: int = 0
    broken: bool = False

    def take(self, frame: _Frame, closing: str) -> None:
        """Add a bracket that is no notation, as it was written."""
        nodes = frame.parts[-1]
        for separator, part in zip(reversed(frame.separators), reversed(frame.parts[:-1]), strict=True):
            nodes.appendleft(Plain(separator))
            nodes = _together(part, nodes)
        nodes.appendleft(Plain(frame.opening))
        if closing:
            nodes.append(Plain(closing))
        self.parts[-1] = _together(self.parts[-1], nodes)
        self.depth = max(self.depth, frame.depth)


def _together(first: deque[Node], second: deque[Node]) -> deque[Node]:
    """Both in a row, in one of them. The longer one is kept, so that deep nesting stays quick."""
    if len(second) > len(first):
        second.extendleft(reversed(first))
        return second
    first.extend(second)
    return first


def parse(text: str) -> Tree:
    """The tree of a prompt. No text is an error. `render(parse(text))` may be written otherwise, and means the same."""
    stack = [_Frame("")]
    open_count = {"[": 0, "(": 0}
    for token in _LEXEMES.findall(text):
        top = stack[-1]
        if token in ("[", "("):
            stack.append(_Frame(token))
            open_count[token] += 1
        elif token in ("]", ")") and open_count["[" if token == "]" else "("]:
            _close(stack, open_count, token)
        elif token in (":", "|") and top.opening == "[":
            top.separators.append(token)
            top.parts.append(deque())
        else:
            top.parts[-1].append(Plain(token))
    while len(stack) > 1:
        unclosed = stack.pop()
        stack[-1].take(unclosed, "")
    return _joined(stack[0].parts[0])


def _close(stack: list[_Frame], open_count: dict[str, int], closing: str) -> None:
    """End the innermost bracket of this shape; brackets within it that are still open are text."""
    wanted = "[" if closing == "]" else "("
    while stack[-1].opening != wanted:
        unclosed = stack.pop()
        open_count[unclosed.opening] -= 1
        stack[-1].take(unclosed, "")
        stack[-1].broken = True
    frame = stack.pop()
    open_count[wanted] -= 1
    node = None if wanted == "(" or frame.broken else _notation(frame)
    if node is None:
        stack[-1].take(frame, closing)
    else:
        stack[-1].parts[-1].append(node)
        stack[-1].depth = max(stack[-1].depth, frame.depth + 1)


def _notation(frame: _Frame) -> Node | None:
    """The notation that a pair of square brackets is; None where it is none."""
    if not frame.separators or frame.depth >= DEPTH:
        return None
    if ":" not in frame.separators:
        return Alternation(tuple(_joined(part) for part in frame.parts))
    when = _number(frame.parts[-1])
    if when is None or frame.separators[-1] != ":" or frame.separators.count(":") > 2:
        return None
    *texts, _ = _between_colons(frame)
    before = _joined(texts[0]) if len(texts) == 2 else ()
    return Edit(before, _joined(texts[-1]), when)


def _between_colons(frame: _Frame) -> list[deque[Node]]:
    """The parts between colons alone: beside one, a bar is text."""
    found = [frame.parts[0]]
    for separator, part in zip(frame.separators, frame.parts[1:], strict=True):
        if separator == ":":
            found.append(part)
        else:
            found[-1].append(Plain(separator))
            found[-1].extend(part)
    return found


def _number(part: deque[Node]) -> str | None:
    """The number that a part is, as it was written; a number is one lexeme."""
    if len(part) != 1 or not isinstance(part[0], Plain):
        return None
    match = _NUMBER.fullmatch(part[0].text)
    return match[1] if match else None


def _joined(part: deque[Node]) -> Tree:
    """The nodes, neighbouring texts put together and empty ones left out."""
    return tuple(_merged(part))


def _merged(nodes: Iterable[Node]) -> Iterator[Node]:
    texts: list[str] = []
    for node in nodes:
        if isinstance(node, Plain):
            texts.append(node.text)
            continue
        if text := "".join(texts):
            yield Plain(text)
        texts.clear()
        yield node
    if text := "".join(texts):
        yield Plain(text)


def render(tree: Tree) -> str:
    """The text of a tree: `parse(render(tree)) == tree` for every tree that `parse` gives."""
    return "".join(_rendered(node) for node in tree)


def _rendered(node: Node) -> str:
    match node:
        case Plain(text):
            return text
        case Edit(before, after, when):
            return f"[{render(before)}:{render(after)}:{when}]"
        case Alternation(options):
            return f"[{'|'.join(render(option) for option in options)}]"
