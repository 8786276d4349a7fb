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
    ("pag", "scale"): "PAG Scale",
    ("apg", "eta"): "APG Eta",
    ("apg", "threshold"): "APG Norm Threshold",
    ("apg", "momentum"): "APG Momentum",
}
# Each of AUTOMATIC1111's extensions rescales in a form of its own, and has its own name for how much.
RESCALES: Mapping[float, str] = {1.0: "CFG Rescale", 2.0: "CFG Rescale phi"}
ACTIVE = "PAG Active"  # which the extension writes beside the scale, and needs when it reads
CHECKBOXES = frozenset({("skip", "all")})  # written True where others are numbers
_OPTIONS = {name.lower(): place for place, name in NAMES.items()}
_FORMS = {"cfg rescale φ": 1.0, **{name.lower(): form for form, name in RESCALES.items()}}  # the first: older versions
_OTHER = re.compile(r"guidance ([a-z0-9]\w*) (\w+)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,6}(\.\d{1,20})?(e-\d{1,2})?")


def guidance_name(kind: str, option: str, form: float = 0.0) -> str:
    """What an option is called there. form: of rescaling."""
    if (kind, option) == ("rescale", "phi") and form in RESCALES:
        return RESCALES[form]
    return NAMES.get((kind, option), f"Guidance {kind} {option}")


def guidance_fields(guidance: GuidanceValues) -> dict[str, str]:
    """Name -> value of each option, in the order given."""
    found: dict[str, str] = {}
    for kind, options in guidance.items():
        form = options.get("form", 0.0) if kind == "rescale" and options.get("phi") else 0.0
        for option, value in options.items():
            if option == "form" and form in RESCALES:
                continue  # the other's name says it
            found[guidance_name(kind, option, form)] = _written((kind, option), value)
            if (kind, option) == ("pag", "scale"):
                found[ACTIVE] = "True"
    return found


def read_guidance(fields: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """What a text's fields say of guidance, kind -> option -> value; what is not a number is left out."""
    found: dict[str, dict[str, float]] = {}
    for name, text in fields.items():
        read = read_option(name, text)
        form = _FORMS.get(name.lower())
        if read is None or (form and not read[1]):  # one of the extensions says it is off: the other may be on
            continue
        (kind, option), value = read
        found.setdefault(kind, {})[option] = value
        if form:
            found[kind]["form"] = form
    if fields.get(ACTIVE) == "False":
        found.pop("pag", None)
    return found


def read_option(name: str, text: str) -> tuple[tuple[str, str], float] | None:
    """((kind, option), value) that one field says; None where it is of something else or is not a number."""
    other = _OTHER.fullmatch(name)
    place = ("rescale", "phi") if name.lower() in _FORMS else _OPTIONS.get(name.lower())
    place = place or ((other[1], other[2]) if other else None)
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
