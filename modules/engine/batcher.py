"""Which pending operations are answered next, and together.

Continuous batching as language-model servers do it (Orca, Yu et al. 2022): at every turn the pictures that can share a
forward pass are chosen anew, so requests join and leave between steps. Who of them steps is decided in
`modules.engine.fairness`. No torch work is done here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from modules.core.operations import Decode, Encode, Exclusive, ModelKey, Operation, Picture, Predict
from modules.engine.costs import PassCosts
from modules.engine.fairness import Fairness, Unit

PATIENCE_SECONDS = 2.0  # how long another group waits at least before it is turned to
PATIENCE_COSTS = 10.0  # ... or this many times what turning to it costs, so that at most a tenth is lost


@dataclass(frozen=True)
class Group:
    """Operations that need the same weights in place: model and patches."""

    model: ModelKey
    patches: tuple[Any, ...] = ()


def group_of(operation: Operation) -> Group:
    """The group an operation belongs to."""
    return Group(operation.model, operation.patches if isinstance(operation, Predict) else ())


@dataclass(eq=False)
class Trajectory:
    """A picture in the making: a started coroutine and the operation it waits for.

    owner: whose it is; ended(trajectory, result, error): called once, with exactly one of both. since: when the
    operation became pending, in the clock's seconds. turn: counts up over all answers, so that those answered together
    keep the order in which they had waited: else the first of them would ride along in every pass.

    arrived: when its job came, in the clock's seconds. fresh: of a job's first pictures, until their first step is
    done. rounds: how many batches its job begins after this one.
    """

    picture: Picture
    owner: Any
    ended: Callable[[Trajectory, Any, Exception | None], None]
    operation: Operation | None = None
    since: float = 0.0
    turn: int = 0
    arrived: float = 0.0
    fresh: bool = False
    rounds: int = 0
    steps: int = 0
    evaluations: int = 0

    @property
    def left(self) -> float:
        """Model evaluations left in its job, this one included, at the pace that it has had so far."""
        steps = max(1, self.operation.left) if isinstance(self.operation, Predict) else 1
        pace = self.evaluations / (self.steps - steps) if self.steps > steps else 1.0
        return (steps + self.rounds * self.steps) * max(1.0, pace)

    def start(self, now: float) -> None:
        """Run to the first operation."""
        self._go(lambda: next(self.picture), now)

    def advance(self, answer: Any, now: float) -> None:
        """Hand in the answer and run to the next operation."""
        self.evaluations += isinstance(self.operation, Predict)
        self._go(lambda: self.picture.send(answer), now)

    def throw(self, error: Exception, now: float) -> None:
        """Raise an error where the picture waits; it may catch it and go on."""
        self._go(lambda: self.picture.throw(error), now)

    def _go(self, run: Callable[[], Operation], now: float) -> None:
        try:
            self.operation, self.since = run(), now
            if isinstance(self.operation, Predict):
                self.steps = max(self.steps, self.operation.left)
            # A sampler of higher order asks several times within its first step
            if self.evaluations and not (isinstance(self.operation, Predict) and self.operation.left == self.steps > 0):
                self.fresh = False
        except StopIteration as end:
            self._end(end.value, None)
        except Exception as error:  # noqa: BLE001  a request's error is its own: it goes to its owner
            self._end(None, error)

    def _end(self, result: Any, error: Exception | None) -> None:
        self.operation = None
        self.picture.close()
        self.ended(self, result, error)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What is answered next: trajectories whose operations are of one kind. entering: the group must be entered."""

    group: Group
    trajectories: tuple[Trajectory, ...]
    entering: bool


class Batcher:
    """Holds the pending trajectories and chooses among them.

    It stays with a group until that is empty or another has waited max(2 s, 10 times the switch's cost). Within a
    group texts come first, then finished pictures, then steps as `Fairness` has them. clock: seconds. pass_costs: what
    passes take.
    """

    def __init__(self, clock: Callable[[], float], max_rows: int, pass_costs: PassCosts) -> None:
        self.max_rows = max_rows
        self._pass_costs = pass_costs
        self.current: Group | None = None
        self._clock = clock
        self._active: list[Trajectory] = []
        self._costs: dict[Group, float] = {}
        self._turns = 0
        self._decoded: Any = None

    def __len__(self) -> int:
        return len(self._active)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(tuple(self._active))

    def add(self, trajectory: Trajectory) -> None:
        """Take a started trajectory; an ended one is ignored."""
        if trajectory.operation is not None:
            self._active.append(trajectory)

    def sweep(self) -> None:
        """Let go of trajectories that ended."""
        self._active = [trajectory for trajectory in self._active if trajectory.operation is not None]

    def members(self, group: Group) -> list[Trajectory]:
        """The pending trajectories of a group, longest waiting first."""
        mine = [t for t in self._active if t.operation is not None and group_of(t.operation) == group]
        return sorted(mine, key=lambda t: (t.since, t.turn))

    def entered(self, group: Group, seconds: float) -> None:
        """The group is in place; it took `seconds`."""
        self.current = group
        self._costs[group] = seconds

    def left(self) -> None:
        """No group is in place."""
        self.current = None

    def next(self) -> Turn | None:
        """The operations to answer now, or None where nothing is pending."""
        self.sweep()
        if not self._active:
            self._costs.clear()
            self._decoded = None
            return None
        group = self._group()
        chosen = self._company(group, self.members(group))
        for trajectory in chosen:
            self._turns += 1
            trajectory.turn = self._turns
        self._decoded = chosen[0].owner if isinstance(chosen[0].operation, Decode) else None
        return Turn(group=group, trajectories=tuple(chosen), entering=group != self.current)

    def _group(self) -> Group:
        groups: dict[Group, float] = {}
        for trajectory in self._active:
            assert trajectory.operation is not None
            group = group_of(trajectory.operation)
            groups[group] = min(groups.get(group, trajectory.since), trajectory.since)
        oldest = min(groups, key=lambda group: groups[group])
        if self.current is None or self.current not in groups:
            return oldest
        others = {group: since for group, since in groups.items() if group != self.current}
        if others:
            first = min(others, key=lambda group: others[group])
            cost = max(self._costs.get(first, 0.0), self._costs.get(self.current, 0.0))
            if self._clock() - others[first] > max(PATIENCE_SECONDS, PATIENCE_COSTS * cost):
                return first
        return self.current

    def _company(self, group: Group, waiting: list[Trajectory]) -> list[Trajectory]:
        """The operations to answer together."""
        if self._decoded is not None:
            # A decode takes as long as a step or two: between two of them, another's step has its turn.
            steps = [t for t in waiting if isinstance(t.operation, Predict) and t.owner is not self._decoded]
            waiting = steps or waiting
        # A text is encoded in a fraction of a step, and its picture can then share the next one
        encodes = [t for t in waiting if isinstance(t.operation, Encode)]
        if encodes:
            return encodes
        # A decode is all that its picture waits for: before others' steps it shortens the mean wait
        decode = next((t for t in waiting if isinstance(t.operation, Decode)), None)
        if decode is not None:
            return [decode]
        whole = next((t for t in waiting if isinstance(t.operation, Exclusive)), None)
        if whole is not None:
            return [whole]
        units = _units(waiting)
        described = [_described(number, unit) for number, unit in enumerate(units)]
        costs = _GroupCosts(self._pass_costs, group)
        chosen = Fairness(described, costs, max_rows=self.max_rows, now=self._clock()).chosen()
        return self._fitting([trajectory for unit in chosen for trajectory in units[unit.number]])

    def _fitting(self, wanted: list[Trajectory]) -> list[Trajectory]:
        """As many as one pass holds: a job's pictures may be more than that."""
        chosen: list[Trajectory] = []
        rows = 0
        for trajectory in wanted:
            rows += len(_predict(trajectory).rows)
            if not chosen or rows <= self.max_rows:
                chosen.append(trajectory)
        return chosen


class _GroupCosts:
    """What passes of one group cost."""

    def __init__(self, costs: PassCosts, group: Group) -> None:
        self._costs, self._group = costs, group

    def seconds(self, shape: tuple[int, ...], rows: int) -> float | None:
        return self._costs.seconds(self._group, shape, rows)

    def wanting(self, shape: tuple[int, ...], rows: int) -> bool:
        return self._costs.wanting(self._group, shape, rows)


def _units(waiting: list[Trajectory]) -> list[list[Trajectory]]:
    """Pictures that a person asked for side by side belong together; strict ones are by themselves."""
    found: dict[Any, list[Trajectory]] = {}
    for trajectory in waiting:
        operation = _predict(trajectory)
        key = (id(trajectory),) if operation.strict else (id(trajectory.owner), _shape(operation))
        found.setdefault(key, []).append(trajectory)
    return list(found.values())


def _described(number: int, members: list[Trajectory]) -> Unit:
    operation = _predict(members[0])
    shape = _shape(operation)
    return Unit(
        number=number,
        shape=(*shape, max(text_length(_predict(member)) for member in members)),
        share=None if operation.strict else (*shape, int(operation.rows[0].seamless)),
        rows=sum(len(_predict(member).rows) for member in members),
        left=max(member.left for member in members),
        arrived=members[0].arrived,
        since=min((member.since, member.turn) for member in members),
        fresh=any(member.fresh for member in members),
    )


def _predict(trajectory: Trajectory) -> Predict:
    assert isinstance(trajectory.operation, Predict)
    return trajectory.operation


def _shape(operation: Predict) -> tuple[int, ...]:
    return tuple(operation.rows[0].x.shape)


def text_length(operation: Predict) -> int:
    """Tokens of the longest text: what a pass costs depends on it, too."""
    return max(row.text.length for row in operation.rows)
