"""Guidance as the parameters text names it: AUTOMATIC1111's names where it has some, else those of known extensions.

An option that has no such name, as a plug-in's, is written as "Guidance kind option".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from modules.core.guidance import GuidanceValues

# (kind, option) -> name. Skip: AUTOMATIC1111 itself.
NAMES: Mapping[tuple[str, str], str] = {
    ("skip", "sigma"): "NGMS",
    ("skip", "all"): "NGMS all steps",
    ("skip", "early"): "Skip Early CFG",
    ("rescale", "phi"): "CFG Rescale phi",
    ("pag", "scale"): "PAG scale",
    ("apg", "eta"): "APG Eta",
    ("apg", "threshold"): "APG Norm Threshold",
    ("apg", "momentum"): "APG Momentum",
}
CHECKBOXES = frozenset({("skip", "all")})  # written True where others are numbers
_OPTIONS = {name.lower(): place for place, name in NAMES.items()}
_OTHER = re.compile(r"guidance ([a-z0-9]\w*) (\w+)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,6}(\.\d{1,20})?(e-\d{1,2})?")


def guidance_name(kind: str, option: str) -> str:
    """What an option is called there."""
    return NAMES.get((kind, option), f"Guidance {kind} {option}")


def guidance_fields(guidance: GuidanceValues) -> dict[str, str]:
    """Name -> value of each option, in the order given."""
    return {
        guidance_name(kind, option): _written((kind, option), value)
        for kind, options in guidance.items()
        for option, value in options.items()
    }


def read_guidance(fields: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """What a text's fields say of guidance, kind -> option -> value; what is not a number is left out."""
    found: dict[str, dict[str, float]] = {}
    for name, text in fields.items():
        if read := read_option(name, text):
            (kind, option), value = read
            found.setdefault(kind, {})[option] = value
    return found


def read_option(name: str, text: str) -> tuple[tuple[str, str], float] | None:
    """((kind, option), value) that one field says; None where it is of something else or is not a number."""
    other = _OTHER.fullmatch(name)
    place = _OPTIONS.get(name.lower()) or ((other[1], other[2]) if other else None)
    if place is None:
        return None
    value = {"true": 1.0, "false": 0.0}.get(text.lower()) if place in CHECKBOXES else None
    if value is None and _NUMBER.fullmatch(text):
        value = float(text)
    return None if value is None else (place, value)


def _written(place: tuple[str, str], value: float) -> str:
    if place in CHECKBOXES:
        return str(bool(value))
    return str(int(value)) if float(value).is_integer() else repr(float(value))
