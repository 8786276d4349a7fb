"""AUTOMATIC1111's parameters text, written and read (text only; where it is stored is `modules.imaging`'s part).

    prompt, any number of lines
    Negative prompt: text, any number of lines          (left out where empty)
    Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...

What the last line says stands in `infotext_fields`. The format cannot carry everything: lines lose the blanks at their
ends, and a prompt line that begins with "Negative prompt:" is read as the negative prompt. Our own chunk beside it
carries the plan without loss.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modules.core.generation import GenerationPlan
from modules.core.infotext_fields import InfotextLabels, Made, request_values, written

__all__ = ["MAX_CHARACTERS", "Infotext", "InfotextLabels", "form_values", "join_infotext", "lost_fields", "quote",
           "read_infotext", "unquote", "write_infotext"]  # fmt: skip

NEGATIVE = "Negative prompt:"
LEAST_FIELDS = 3  # of a last line that is taken for the parameters
MAX_CHARACTERS = 2 << 20  # of a text that is taken apart; twenty times the longest prompt
# A value is quoted if it holds a comma, a line break or a colon. The name is bounded so that a prompt of one very long
# line is read in linear time.
_FIELD = re.compile(r'(\w[\w \-/]{1,80}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


@dataclass(frozen=True, kw_only=True)
class Infotext:
    """A parameters text, taken apart. fields: name as written -> value, unquoted, in the text's order."""

    prompt: str = ""
    negative_prompt: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


def write_infotext(plan: GenerationPlan, labels: InfotextLabels, *, seed: int) -> str:
    """The parameters text of one picture of `plan`, made with `seed`, in AUTOMATIC1111's order and quoting."""
    fields = written(Made(plan=plan, labels=labels, seed=seed))
    return join_infotext(Infotext(prompt=plan.prompt, negative_prompt=plan.negative_prompt, fields=fields))


def join_infotext(info: Infotext) -> str:
    """The text that `read_infotext` takes apart."""
    fields = ", ".join(f"{name}: {quote(value)}" for name, value in info.fields.items())
    negative = f"\n{NEGATIVE} {info.negative_prompt}" if info.negative_prompt else ""
    return f"{info.prompt}{negative}\n{fields}".strip()


def read_infotext(text: str) -> Infotext:
    """Take a parameters text apart as AUTOMATIC1111 does; any text is accepted, and cut at MAX_CHARACTERS.

    The last line holds the parameters if it has at least three `name: value`; lines from the first "Negative prompt:"
    on are the negative prompt.
    """
    *lines, last = text[:MAX_CHARACTERS].strip().split("\n")
    found = _FIELD.findall(last)
    if len(found) < LEAST_FIELDS:
        lines.append(last)
        found = []
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in (line.strip() for line in lines):
        body = line
        if line.startswith(NEGATIVE):
            current, body = negative, line.removeprefix(NEGATIVE).strip()
        if body or current:  # empty lines before the first words are not part of them
            current.append(body)
    fields = {name: unquote(value) for name, value in found}
    return Infotext(prompt="\n".join(prompt), negative_prompt="\n".join(negative), fields=fields)


def form_values(info: Infotext) -> dict[str, Any]:
    """What the text says about a request's fields, for filling a form; what is missing or unreadable is left out.

    Keys are `GenerationRequest`'s; sampler and schedule are labels as written, with names such as "DPM++ 2M Karras"
    taken apart; checkpoint is the model's hash, or its name where there is no hash. A field that a parameters line
    leaves out because it has its usual value is among them, with that value.
    """
    said, _ = request_values(info.fields) if info.fields else ({}, ())
    return {"prompt": info.prompt, "negative_prompt": info.negative_prompt, **said}


def lost_fields(info: Infotext) -> tuple[str, ...]:
    """The fields of the text that `form_values` can do nothing with: unknown here, or unreadable."""
    return request_values(info.fields)[1]


def quote(text: str) -> str:
    """The value as it stands in the parameters line: JSON-quoted if it holds a comma, a line break or a colon."""
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ",\n:") else text


def unquote(text: str) -> str:
    """The inverse of `quote`; a value that only looks quoted stays as it is."""
    if len(text) < 2 or not (text[0] == text[-1] == '"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text
