"""When a worker process is given up: how long it may take, be silent or die, and how that is told of one that lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from modules.core import job as events
from modules.executors.ledger import Entry

LOADING = 6  # times the patience: several gigabytes from a slow disk


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When to give up. Seconds.

    first_wait: before the second start, doubled for each further one up to longest_wait. most_deaths: in a row,
    without a job finished or `steady` seconds of life between them. close: how long a worker may take to end.
    unanswered: how long an interrupt may go without an answer while no job tells of anything. silent: how long a
    worker that has jobs may send nothing at all, though it sends its state every few seconds.
    """

    first_wait: float = 0.25
    longest_wait: float = 8.0
    most_deaths: int = 5
    steady: float = 60.0
    close: float = 5.0
    unanswered: float = 120.0  # one pass of a large picture on a slow CPU takes most of a minute
    silent: float = 120.0

    @property
    def tick(self) -> float:
        """How often to look whether a worker hangs."""
        return min(0.5, self.unanswered / 4)

    def wait(self, deaths: int) -> float:
        """Seconds before the start that follows the `deaths`-th death in a row."""
        return min(self.first_wait * 2 ** max(deaths - 1, 0), self.longest_wait) if deaths else 0.0


class Pulse:
    """Signs of life of one worker. Told of its frames by one thread and asked every `Patience.tick` by another.

    Seconds are counted in those ticks: while the machine sleeps nobody falls silent.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._silent = 0.0  # since its last frame
        self._eventless = 0.0  # since its last event while it has jobs
        self._longest = 0.0  # the longest time without an event that an event ended
        self._loading = False  # its last event was that a checkpoint is on its way

    def frame(self) -> None:
        """It sent a frame, of whatever kind."""
        self._silent = 0.0

    def told(self, event: events.Event) -> None:
        """It told of a job."""
        self._longest, self._eventless = max(self._longest, self._eventless), 0.0
        self._loading = isinstance(event, events.ModelLoading)

    def rest(self) -> None:
        """It has nothing to do."""
        self._silent = self._eventless = 0.0

    def hangs(self, entries: Sequence[Entry]) -> str:
        """Why it has to be ended after one tick more with these jobs; "" where it need not."""
        self._silent += self._patience.tick
        self._eventless += self._patience.tick
        # One step of a large picture may take a minute here: what it has come back from before is no hanging
        enough = max(self._patience.unanswered * (LOADING if self._loading else 1), 3 * self._longest)
        waited = max((monotonic() - entry.asked for entry in entries if entry.interrupted), default=0.0)
        if min(waited, self._eventless) > enough:
            return f"An interrupt was not answered in {enough:.0f} seconds: the worker is ended."
        if self._silent > self._patience.silent:
            return f"The worker sent nothing for {self._silent:.0f} seconds: it is ended."
        return ""
