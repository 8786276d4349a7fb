"""Samplers, one file per idea. Each is a generator function marked with `core.sampling.sampler`.

    x: (1, C, H, W) latent at noise level sigmas[0]; sigmas: steps + 1 floats, strictly decreasing, the last 0;
    noise: the picture's own; options by keyword. Yields a `Query`, is sent the denoised prediction, returns the latent.

A sampler never changes x in place (it may be the very tensor it was given), and imports no torch.
"""

from __future__ import annotations

from difflib import get_close_matches
from itertools import chain

from modules.core.errors import RequestError
from modules.core.plugin import Registry, collect
from modules.core.sampling import Sampler, Schedule

GROUP = "inferenz.samplers"
LONGEST_SCHEDULE = 4  # words: "Align Your Steps GITS"


def registry() -> Registry[Sampler]:
    """All samplers, built in and plugged in, in the order of the list people choose from."""
    return collect(__name__, Sampler, group=GROUP)


def resolve(text: str, samplers: Registry[Sampler], schedules: Registry[Schedule]) -> tuple[Sampler, Schedule | None]:
    """The sampler that `text` names (label, name or alias), and the schedule if `text` names one too.

    "Euler a" and "k_euler_a" give (Euler a, None); the older "DPM++ 2M Karras", "k_dpmpp_2m_ka" and
    "DPM++ 2M SDE Exponential" give the schedule as well. Raises RequestError naming the nearest samplers.
    """
    words = text.replace("_", " ").split()
    for count in range(min(LONGEST_SCHEDULE + 1, len(words))):
        cut = len(words) - count
        found = samplers.find(" ".join(words[:cut]))
        spacing = schedules.find(" ".join(words[cut:])) if count else None
        if found and (spacing or not count):
            return found, spacing
    labels = {kind.label.lower(): kind.label for kind in samplers.values()}
    known = {
        alias.lower(): kind.label
        for kind in samplers.values()
        for alias in chain((kind.name, kind.label), kind.aliases)
    }
    near = [known[match] for match in get_close_matches(text.lower(), known, n=6, cutoff=0.6)]
    accepted = ", ".join(dict.fromkeys(near or labels.values()))
    raise RequestError("sampler", f"there is no sampler named {_shown(text)}", accepted=accepted)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
