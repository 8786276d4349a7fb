"""Automatic: whatever suits the sampler."""

from __future__ import annotations

from collections.abc import Sequence

from modules.core.sampling import NoiseLevels, schedule


@schedule("automatic", label="Automatic", aliases=("auto", "default"), rank=0)
def automatic(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """A place in the list, without levels of its own: `schedules.for_sampler` puts the sampler's own in its place."""
    raise LookupError("Automatic has no noise levels of its own: ask modules.schedules.for_sampler first.")
