from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from modules.core import job as events
from modules.core.job import Event


class Heard:
    """Collects events, and waits for one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def of(self, job: str) -> list[Event]:
        with self._changed:
            return [event for event in self.events if event.job == job]

    def wait(self, wanted: Callable[[Event], bool], seconds: float = 30) -> Event:
        """The first event that is `wanted`, now or later."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(wanted, self.events)), seconds), self.events[-5:]
            return next(filter(wanted, self.events))

    def end(self, job: str, seconds: float = 30) -> Event:
        return self.wait(lambda event: event.job == job and isinstance(event, events.END_EVENTS), seconds)

    def step(self, job: str) -> Event:
        return self.wait(lambda event: event.job == job and isinstance(event, events.Step))


class Fussy(Heard):
    """Fails on the first event of one kind of one job, as a fault in the server would."""

    def __init__(self, job: str, kind: type[Event]) -> None:
        super().__init__()
        self._job, self._kind = job, kind
        self._failed = False

    def __call__(self, event: Event) -> None:
        if not self._failed and event.job == self._job and isinstance(event, self._kind):
            self._failed = True
            raise IndexError("no such picture")
        super().__call__(event)


@pytest.fixture
def heard() -> Heard:
    return Heard()
