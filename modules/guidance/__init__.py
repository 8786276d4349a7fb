"""What can be added to classifier-free guidance, one file per idea. Each is a function marked with `core.guidance`.

    inner: the guidance it lies around; options by keyword. Returns a `Guidance` for one picture.

With every option at its default it changes nothing. No torch is imported.
"""

from __future__ import annotations

from difflib import get_close_matches
from itertools import chain

from modules.core.errors import RequestError
from modules.core.guidance import GuidanceKind, GuidanceValues
from modules.core.plugin import Registry, collect

GROUP = "inferenz.guidance"


def registry() -> Registry[GuidanceKind]:
    """All kinds of guidance, built in and plugged in, from the innermost to the outermost."""
    return collect(__name__, GuidanceKind, group=GROUP)


def resolve(wanted: GuidanceValues, kinds: Registry[GuidanceKind]) -> dict[str, dict[str, float]]:
    """What was asked, by registry names and in the registry's order, less whatever changes nothing.

    Raises RequestError for an unknown kind or option, a value out of range, and one kind named twice.
    """
    found: dict[str, dict[str, float]] = {}
    for text, values in wanted.items():
        kind = kinds.find(text)
        if kind is None:
            raise RequestError(f"guidance.{_shown(text)}", "there is no such guidance", accepted=_near(text, kinds))
        if kind.name in found:
            raise RequestError(f"guidance.{kind.name}", "is there twice", accepted="each guidance once")
        found[kind.name] = kind.checked(values)
    return {name: found[name] for name in kinds if found.get(name)}


def _near(text: str, kinds: Registry[GuidanceKind]) -> str:
    known = {
        alias.lower(): kind.name for kind in kinds.values() for alias in chain((kind.name, kind.label), kind.aliases)
    }
    near = [known[match] for match in get_close_matches(text.lower(), known, n=3, cutoff=0.6)]
    return ", ".join(dict.fromkeys(near or kinds))


def _shown(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
