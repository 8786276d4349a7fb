"""Noise schedules, one file per idea. Each is a function marked with `core.sampling.schedule`.

steps: at least 1. levels: what the model was trained on. Returns steps + 1 sigmas, strictly decreasing, the last 0.
"""

from __future__ import annotations

from difflib import get_close_matches

from modules.core.errors import RequestError
from modules.core.plugin import Registry, collect
from modules.core.sampling import Sampler, Schedule

GROUP = "inferenz.schedules"
AUTOMATIC = "automatic"


def registry() -> Registry[Schedule]:
    """All schedules, built in and plugged in, in the order of the list people choose from."""
    return collect(__name__, Schedule, group=GROUP)


def resolve(text: str, schedules: Registry[Schedule]) -> Schedule:
    """The schedule that `text` names (label, name or alias). Raises RequestError naming the nearest ones."""
    found = schedules.find(text)
    if found is not None:
        return found
    known = {name.lower(): kind.label for kind in schedules.values() for name in (kind.label, kind.name, *kind.aliases)}
    near = [known[match] for match in get_close_matches(text.lower(), known, n=4, cutoff=0.6)]
    accepted = ", ".join(dict.fromkeys(near or known.values()))
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    raise RequestError("schedule", f"there is no schedule named {shown}", accepted=accepted)


def for_sampler(chosen: Sampler, spacing: Schedule, schedules: Registry[Schedule]) -> Schedule:
    """What `spacing` means for this sampler: Automatic is the sampler's own, every other one is itself."""
    return schedules[chosen.schedule] if spacing.name == AUTOMATIC else spacing
