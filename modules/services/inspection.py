"""Any picture, looked at: what it is, who made it and how, and what of that can be asked for here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modules import metadata
from modules.core.errors import StorageError
from modules.core.infotext import Infotext
from modules.core.metadata import Reader, Reading
from modules.core.plugin import Registry
from modules.imaging.pictures import picture_facts
from modules.imaging.stealth import hidden_texts
from modules.services.fitting import Fitted, Fitting
from modules.services.provenance import Contents, contents

MOST_TEXT = 200_000  # characters that are shown of a text
_HIDDEN = "The text is hidden in the lowest bits of the picture's pixels."


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a picture says. format: as Pillow calls it. program: "" where the picture says nothing that is known here.

    made: what the history would keep of it; its plan makes the picture again. others: texts that no reader knows.
    """

    width: int
    height: int
    format: str
    program: str
    text: str
    info: Infotext
    notes: tuple[str, ...]
    made: Contents
    fitted: Fitted
    others: Mapping[str, str]


class Inspector:
    """Looks at pictures. readers: of other programs' texts, all there are by default."""

    def __init__(self, fitting: Fitting, readers: Registry[Reader] | None = None) -> None:
        self._fitting = fitting
        self._readers = readers or metadata.registry()

    def picture(self, source: Path | bytes) -> Inspection:
        """Raises StorageError where it is not a readable picture, or is one that nobody should open."""
        facts = picture_facts(source)
        texts, notes = facts.texts, tuple[str, ...]()
        found = metadata.read_texts(texts, self._readers)
        if found is None or not (found.text or found.info.fields):
            hidden, problem = _hidden(source)
            notes = (problem,) if problem else ()
            if hidden and (inside := metadata.read_texts(hidden, self._readers)):
                found, notes = inside, (*notes, _HIDDEN)
                texts = {**texts, **hidden}
        reading = found or Reading(program="", info=Infotext())
        made = contents(facts.width, facts.height, texts)
        others = {} if found else {name: text[:MOST_TEXT] for name, text in list(texts.items())[:20]}
        return Inspection(
            width=facts.width,
            height=facts.height,
            format=facts.format,
            program=reading.program,
            text=reading.text[:MOST_TEXT],
            info=reading.info,
            notes=(*reading.notes, *notes),
            made=made,
            fitted=self._fit(reading.info, made),
            others=others,
        )

    def text(self, text: str) -> Reading:
        """A text that was pasted: a parameters text, or the JSON of a program that writes its own."""
        found = metadata.read_texts({"parameters": text, "prompt": text}, self._readers)
        return found or Reading(program="", info=Infotext(prompt=text.strip()))

    def fit(self, info: Infotext) -> Fitted:
        return self._fitting.fit(info)

    def _fit(self, info: Infotext, made: Contents) -> Fitted:
        fitted = self._fitting.fit(info)
        if made.plan is None:
            return fitted
        # Our own chunk has the prompts without loss
        exact = {"prompt": made.prompt, "negative_prompt": made.negative_prompt}
        return replace(fitted, values={**fitted.values, **exact})


def inspection_json(found: Inspection) -> dict[str, Any]:
    """For a browser: whole numbers that a double cannot hold as text, nothing that is longer than anybody reads."""
    info = found.info
    return {
        "width": found.width, "height": found.height, "format": found.format, "program": found.program,
        "text": found.text, "prompt": found.made.prompt or info.prompt[:MOST_TEXT],
        "negative_prompt": found.made.negative_prompt or info.negative_prompt[:MOST_TEXT],
        "fields": [[name, value[:MOST_TEXT]] for name, value in list(info.fields.items())[:200]],
        "notes": list(found.notes), "replayable": bool(found.made.plan or info.fields),
        "own": found.made.plan is not None, "others": dict(found.others), **fitted_json(found.fitted),
    }  # fmt: skip


def fitted_json(fitted: Fitted) -> dict[str, Any]:
    """{"values", "missed", "said"} for a browser's form."""
    values = dict(fitted.values)
    if "seed" in values:
        values["seed"] = str(values["seed"])
    missed = [{"name": each.name, "value": each.value} for each in fitted.missed]
    return {"values": values, "missed": missed, "said": dict(fitted.said)}


def _hidden(source: Path | bytes) -> tuple[dict[str, str], str]:
    """What the pixels hide, or what is wrong with it."""
    try:
        return hidden_texts(source), ""
    except StorageError as error:
        return {}, str(error)


def own_chunk(text: str) -> Mapping[str, Any]:
    """Our chunk as it stands in a file, beside what `contents` keeps of it; empty where it is none."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
