"""The flag --guidance, which says what is added to CFG: --guidance pag.scale=3 --guidance rescale.phi=0.7."""

from __future__ import annotations

from collections.abc import Sequence

from modules.core.errors import RequestError


def guidance_values(given: Sequence[str]) -> dict[str, dict[str, float]]:
    """Kind -> option -> value, as a request has them. given: one KIND.OPTION=X each, or several joined by commas.

    Raises RequestError for what is not of that form. Which kinds and options there are is the resolver's to say.
    """
    found: dict[str, dict[str, float]] = {}
    for text in (part.strip() for parts in given for part in parts.split(",")):
        name, equals, number = text.partition("=")
        kind, dot, option = name.strip().partition(".")
        try:
            value = float(number)
        except ValueError:
            value = None
        if not (kind and dot and option and equals) or value is None:
            raise RequestError(
                "--guidance", f"{text[:60]!r} is not accepted", accepted="KIND.OPTION=X, such as pag.scale=3"
            )
        if found.setdefault(kind, {}).setdefault(option, value) != value:
            raise RequestError("--guidance", f"{kind}.{option} has two values", accepted="one value")
    return found
