"""Who takes the next step, and with whom: nobody is to wait longer for the sake of company.

Where a pass of several pictures costs little more than one of a single picture, all move in lockstep. Where it costs
as much as they do one after another (processors, large pictures), lockstep would end all of them at the very end: with
k equal pictures of n steps, k * n instead of n * (k + 1) / 2 on average. So lockstep is kept only while a round, in
which everyone takes a step, costs no more than the mean of those who would go one after another. This holds for unequal
pictures too: it is the comparison for the steps until the next one is finished, and it is made anew at every turn.

Otherwise the picture goes first that would be finished first, had it begun at its arrival with what is left of it
(shortest remaining processing time, Schrage 1968, aged by arrival: newer jobs hold nobody up for longer than its own
work), with as much company as lowers the mean. A job's first step comes before all, so that it is seen to begin; and
one pass in PATIENCE_PASSES goes to whoever has waited longest, so that every preview moves now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

PATIENCE_SECONDS = 15.0  # a picture waits so long at least before it has a turn out of order
PATIENCE_PASSES = 30  # ... or so many passes per picture that waits: at most a thirtieth of the work is out of order
NEAR = 1.05  # of two ways nearly as good, the one in which more pictures move


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Pictures that move together: those of one job that were asked for side by side, or a single one.

    shape: of the latent, then the tokens of the longest text. share: those with equal ones can share a pass; None: none
    can. rows: of all its pictures. left: model evaluations left, as far as known, of the whole job. arrived: of the
    job, in seconds. since: (when it began to wait in seconds, its last turn). fresh: its job has not completed a step
    yet.
    """

    number: int
    shape: tuple[int, ...]
    share: tuple[int, ...] | None
    rows: int
    left: float
    arrived: float
    since: tuple[float, int]
    fresh: bool


class Costs(Protocol):
    """Seconds of a pass by shape and rows; see `modules.engine.costs`."""

    def seconds(self, shape: tuple[int, ...], rows: int) -> float | None: ...
    def wanting(self, shape: tuple[int, ...], rows: int) -> bool: ...


class Fairness:
    """One decision: made for the units that wait, with what is known of costs now."""

    def __init__(self, units: Sequence[Unit], costs: Costs, *, max_rows: int, now: float) -> None:
        self._units = units
        self._costs = costs
        self._max_rows = max_rows
        self._now = now

    def chosen(self) -> list[Unit]:
        """The units of the next pass, the first one always in; the others as far as they fit."""
        by_wait = sorted(self._units, key=lambda unit: unit.since)
        by_end = sorted(self._units, key=lambda unit: (self._end(unit), unit.since))
        size, probe = self._lockstep(), self._probe(by_end)
        fresh = [unit for unit in by_wait if unit.fresh]
        if fresh:
            # Others come along unless that is known to be no good; where it is not known, it is learnt now
            return self._filled([*fresh, *(by_wait if probe or size != 1 else ())])
        if size is None:
            return self._filled(by_wait)
        if probe:
            return probe
        if size > 1:
            return self._filled(by_wait, size)
        first = by_wait[0]
        if self._now - first.since[0] > self._patience():
            return self._filled([first, *by_end], self._company(first, by_end))
        return self._filled(by_end, self._company(by_end[0], by_end))

    def _lockstep(self) -> int | None:
        """How many units to move in one pass where all take turns: 1 where that does not pay, None: not known."""
        alone = [self._alone(unit) for unit in self._units]
        known = [seconds for seconds in alone if seconds is not None]
        if len(known) < len(alone):
            return None
        best = _mean_end(sorted(known))
        for size in range(self._fitting(self._units), 1, -1):
            if self._round(size) <= best:
                return size
        return 1

    def _round(self, size: int) -> float:
        """Seconds in which every unit takes one step, up to `size` of them in a pass."""
        shares = {unit.share for unit in self._units if unit.share is not None}
        total = sum(self._alone(unit) or 0.0 for unit in self._units if unit.share is None)
        for share in shares:
            mine = [unit for unit in self._units if unit.share == share]
            together = min(size, self._fitting(mine))
            if together == 1:
                total += sum(self._alone(unit) or 0.0 for unit in mine)
            else:
                rows = round(sum(unit.rows for unit in mine) * together / len(mine))
                total += (self._costs.seconds(_together(mine), rows) or 0.0) * len(mine) / together
        return total

    def _company(self, first: Unit, by_end: Sequence[Unit]) -> int:
        """How many of those that can share first's pass should: whatever ends them earliest on average."""
        if first.share is None:
            return 1
        mine = [unit for unit in by_end if unit.share == first.share]
        means = {size: self._mean_in_blocks(mine, size) for size in range(1, self._fitting(mine) + 1)}
        best = min(means.values())
        return max(size for size, mean in means.items() if mean <= min(NEAR * best, means[1]))

    def _mean_in_blocks(self, units: Sequence[Unit], size: int) -> float:
        """Mean end of units with one step to go, `size` of them at a time."""
        ends: list[float] = []
        now = 0.0
        for start in range(0, len(units), size):
            block = units[start : start + size]
            now += (
                (self._alone(block[0]) if len(block) == 1 else None)
                or self._costs.seconds(_together(block), sum(unit.rows for unit in block))
                or 0.0
            )
            ends += [now] * len(block)
        return sum(ends) / len(ends)

    def _probe(self, by_end: Sequence[Unit]) -> list[Unit]:
        """A pass that teaches what company costs, where that is not known: the next one's own step, or two at once.

        Whether two pay tells whether more do, as far as cost is linear in the rows.
        """
        first = by_end[0]
        mates = [unit for unit in by_end[1:] if unit.share is not None and unit.share == first.share]
        if not mates or first.rows + mates[0].rows > self._max_rows:
            return []
        if self._costs.wanting(first.shape, first.rows):
            return [first]
        if self._costs.wanting(_together((first, mates[0])), first.rows + mates[0].rows):
            return [first, mates[0]]
        return []

    def _patience(self) -> float:
        dearest = max(self._alone(unit) or 0.0 for unit in self._units)
        return max(PATIENCE_SECONDS, PATIENCE_PASSES * dearest * (len(self._units) - 1))

    def _end(self, unit: Unit) -> float:
        return unit.arrived + unit.left * (self._alone(unit) or 0.0)

    def _alone(self, unit: Unit) -> float | None:
        """Seconds of a step of the unit by itself."""
        seconds = self._costs.seconds(unit.shape, min(unit.rows, self._max_rows))
        return None if seconds is None else seconds * max(1.0, unit.rows / self._max_rows)

    def _fitting(self, units: Sequence[Unit]) -> int:
        """How many of the units fit into one pass at most, the smallest first; at least 1."""
        rows = count = 0
        for unit in sorted(units, key=lambda unit: unit.rows):
            rows += unit.rows
            count += rows <= self._max_rows
        return max(1, count)

    def _filled(self, wanted: Sequence[Unit], size: int | None = None) -> list[Unit]:
        """The first unit, and those after it that can share its pass while they fit."""
        first = wanted[0]
        found, rows = [first], first.rows
        for unit in wanted[1:]:
            if unit in found or unit.share is None or unit.share != first.share:
                continue
            if len(found) == size or rows + unit.rows > self._max_rows:
                continue
            found.append(unit)
            rows += unit.rows
        return found


def _together(units: Sequence[Unit]) -> tuple[int, ...]:
    """The shape of a pass of units that can share one: their latents are equal, and the longest text counts."""
    return max(unit.shape for unit in units)


def _mean_end(costs: Sequence[float]) -> float:
    """Mean end of steps taken one after another."""
    total = now = 0.0
    for cost in costs:
        now += cost
        total += now
    return total / len(costs)
