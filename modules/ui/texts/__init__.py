"""What the page says, in tables: one JSON file per language, every file with the same keys.

Placeholders are `{name}` as in str.format. Adding a language is adding a file; its own name is under "language.name".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

FALLBACK = "en"


@dataclass(frozen=True)
class Texts:
    """The texts of one language ("en", "de", "it"). Calling it with a key gives the text; an unknown key raises."""

    language: str
    table: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        return self.table[key].format(**values) if values else self.table[key]


@cache
def languages() -> tuple[str, ...]:
    """The languages there are tables for, English first."""
    found = sorted(entry.name[:-5] for entry in files(__package__).iterdir() if entry.name.endswith(".json"))
    return (FALLBACK, *(name for name in found if name != FALLBACK))


@cache
def texts_for(language: str) -> Texts:
    """The texts of a language. Raises FileNotFoundError for one without a table: choose with `negotiate` first."""
    table = json.loads((files(__package__) / f"{language}.json").read_text(encoding="utf-8"))
    return Texts(language, MappingProxyType(table))


def negotiate(wished: str, accept_language: str = "") -> str:
    """The best language there is: the one wished for, else the first known of an Accept-Language header, else English.

    Quality values are read as RFC 9110 writes them; "de-AT" counts as "de".
    """
    known = languages()
    if wished in known:
        return wished
    ranked = []
    for place, part in enumerate(accept_language.split(",")[:20]):
        name, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            weight = 0.0
        ranked.append((-weight, place, name.split("-")[0].lower()))
    return next((name for _, _, name in sorted(ranked) if name in known), FALLBACK)
