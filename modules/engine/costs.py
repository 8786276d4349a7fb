"""What forward passes cost here, learnt from the passes themselves."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

WEIGHT = 0.3  # of a new pass in the running average
GROUPS = 4  # whose costs are kept: a model that comes back within a few others need not be learnt again
STALE_PASSES = 100  # a figure so many passes old is looked at again: one pass in a hundred may be the dearer kind

Shape = tuple[int, ...]


@dataclass
class _Figure:
    seconds: float
    passes: int = 1
    taken: int = 0


@dataclass
class _Record:
    """Passes of one group and shape. figures: by rows. taken: passes so far."""

    figures: dict[int, _Figure] = field(default_factory=dict)
    taken: int = 0


class PassCosts:
    """Seconds of a pass by group (of model and patches), shape and number of rows.

    A shape is the latent's, then the tokens of the longest text.

    The first pass of a kind often prepares something (kernels are chosen, weights reordered), so it counts as an upper
    bound only. Used from the engine's one thread.
    """

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, dict[Shape, _Record]] = OrderedDict()

    def forget(self) -> None:
        """Learn everything anew: an option that costs depend on changed."""
        self._groups.clear()

    def measured(self, group: Hashable, shape: Shape, rows: int, seconds: float) -> None:
        """A pass was made."""
        shapes = self._groups.setdefault(group, {})
        self._groups.move_to_end(group)
        while len(self._groups) > GROUPS:
            self._groups.popitem(last=False)
        record = shapes.setdefault(shape, _Record())
        record.taken += 1
        figure = record.figures.get(rows)
        if figure is None:
            record.figures[rows] = _Figure(seconds, taken=record.taken)
            return
        if figure.passes == 1:
            figure.seconds = min(seconds, figure.seconds)
        else:
            figure.seconds += WEIGHT * (seconds - figure.seconds)
        figure.passes += 1
        figure.taken = record.taken

    def wanting(self, group: Hashable, shape: Shape, rows: int) -> bool:
        """Whether a pass of so many rows would tell something new."""
        record = self._record(group, shape)
        figure = record.figures.get(rows)
        return figure is None or figure.passes < 2 or record.taken - figure.taken > STALE_PASSES

    def seconds(self, group: Hashable, shape: Shape, rows: int) -> float | None:
        """What a pass of so many rows costs; None where no pass of this shape was made yet.

        Between the kinds measured, and beyond two of them, cost is taken as linear in the rows. Else what was not
        tried is flattered, so that it is: below all of them cost is proportional, above a single one it is the same.
        """
        figures = self._record(group, shape).figures
        known = sorted((r, f.seconds) for r, f in figures.items() if f.passes > 1)
        first = figures.get(rows)
        if not known:
            known = sorted((r, f.seconds) for r, f in figures.items())
        if not known:
            return None
        found = _on_line(known, rows)
        return min(found, first.seconds) if first is not None and first.passes == 1 else found

    def _record(self, group: Hashable, shape: Shape) -> _Record:
        return self._groups.get(group, {}).get(shape) or _Record()


def _on_line(known: list[tuple[int, float]], rows: int) -> float:
    """known: (rows, seconds), ascending, at least one."""
    if rows <= known[0][0]:
        return known[0][1] * rows / known[0][0]
    for (low, below), (high, above) in itertools.pairwise(known):
        if rows <= high:
            return below + (above - below) * (rows - low) / (high - low)
    high, above = known[-1]
    if len(known) == 1:
        return above
    low, below = known[-2]
    return above + max(0.0, (above - below) / (high - low)) * (rows - high)
