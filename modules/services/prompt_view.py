"""What a typed prompt will become, for the page: its problems, and the text that each step sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from modules.core.errors import RequestError
from modules.core.generation import MAX_PROMPT_CHARACTERS, GenerationRequest
from modules.core.sampling import Sampler
from modules.prompting.dynamic import Template, read
from modules.prompting.lint import findings
from modules.prompting.networks import tags, without_tags
from modules.prompting.stages import Part, Stages, parts_of, stages_of
from modules.services.words import Words

MOST_ROWS = 60  # of one text's list: an alternation over 150 steps says no more than its beginning


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A problem of a text. problem: what its sentence is looked up by; start, end: where, None for the whole text."""

    problem: str
    start: int | None = None
    end: int | None = None
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Evaluations first to last (counted from 1) of the model that see `text`."""

    first: int
    last: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One of the prompts that AND joins. more: whether there are rows beyond those listed."""

    weight: float
    rows: tuple[Row, ...]
    more: bool


@dataclass(frozen=True, kw_only=True)
class TextView:
    """One text. drawn: with styles, choices and wildcards in place, for this seed."""

    troubles: tuple[Trouble, ...]
    drawn: str
    parts: tuple[Seen, ...]


def prompt_view(
    words: Words, request: GenerationRequest, sampler: Sampler, *, steps: int, seed: int
) -> Mapping[str, Any]:
    """{"prompt": TextView, "negative_prompt": TextView, "evaluations_per_step"} as JSON-ready values.

    Raises RequestError or StorageError for styles that are not there or cannot be read, and for too many ANDs.
    """
    evaluations = steps * sampler.evaluations
    typed = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    templates = dict(zip(typed, words.templates(request), strict=True))
    views = {}
    for name, text in typed.items():
        drawn, failed = _drawn(templates[name], words, seed)
        found = sorted(_troubles(text, templates[name], words, evaluations), key=lambda each: each.start or 0)
        troubles = (*found, *failed)
        plain = without_tags(drawn)
        parts = parts_of(plain, evaluations) if name == "prompt" else (Part(stages_of(plain, evaluations)),)
        seen = tuple(_seen(part, evaluations) for part in parts)
        views[name] = asdict(TextView(troubles=troubles, drawn=drawn, parts=seen))
    return {**views, "evaluations_per_step": sampler.evaluations}


def _drawn(template: Template, words: Words, seed: int) -> tuple[str, tuple[Trouble, ...]]:
    if not words.dynamic():
        return template.text, ()
    try:
        return template.draw(seed), ()
    except RequestError as error:
        return template.text, (Trouble(problem="undrawable", values={"text": error.problem}),)


def _troubles(text: str, template: Template, words: Words, evaluations: int) -> Iterator[Trouble]:
    """Places are those in the typed text. Comments hold no problems: they become blanks of their size."""
    if len(text) > MAX_PROMPT_CHARACTERS:
        yield Trouble(problem="long", values={"count": str(len(text)), "limit": str(MAX_PROMPT_CHARACTERS)})
        return
    blanked = _comments_blanked(text)
    for found in findings(blanked, evaluations):
        yield Trouble(problem=found.problem, start=found.start, end=found.end, values=found.values)
    for tag in dict.fromkeys(f"{tag.kind}:{tag.name}" for tag in tags(template.text)):
        place = blanked.find(f"<{tag}")
        where = {"start": place, "end": place + len(tag) + 1} if place >= 0 else {}
        yield Trouble(problem="network", values={"name": tag}, **where)
    if words.dynamic():
        reading = read(blanked)
        for place in reading.stray:
            yield Trouble(problem="brace", start=place, end=place + 1, values={"sign": blanked[place]})
        for name in template.unknown():
            spot = next((each for each in reading.spots if each.name == name), None)
            where = {"start": spot.start, "end": spot.end} if spot else {}
            yield Trouble(problem="wildcard", values={"name": name}, **where)
        if template.unreadable:
            yield Trouble(problem="unreadable")


def _comments_blanked(text: str) -> str:
    lines = (line.partition("#") for line in text.split("\n"))
    return "\n".join(before + " " * len(sign + rest) for before, sign, rest in lines)


def _seen(part: Part, evaluations: int) -> Seen:
    rows = _rows(part.stages, evaluations)
    return Seen(weight=part.weight, rows=tuple(rows[:MOST_ROWS]), more=len(rows) > MOST_ROWS)


def _rows(stages: Stages, evaluations: int) -> list[Row]:
    rows: list[Row] = []
    for number in range(1, evaluations + 1):
        text = stages.at(number - 1)
        if rows and rows[-1].text == text:
            rows[-1] = replace(rows[-1], last=number)
        else:
            rows.append(Row(first=number, last=number, text=text))
    return rows
