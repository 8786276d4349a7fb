"""Events on their way out: numbered per job, one at a time, none after a job's last."""

from __future__ import annotations

from dataclasses import replace
from threading import RLock

from modules.core.job import END_EVENTS, Event, OnEvent


class Outbox:
    """Numbers events from 0 per job and hands them to one callback. Thread-safe."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._lock = RLock()
        self._next: dict[str, int] = {}

    def open(self, job: str) -> bool:
        """Begin a job; False where a job of that name is in progress."""
        with self._lock:
            if job in self._next:
                return False
            self._next[job] = 0
            return True

    def send(self, event: Event) -> None:
        """Send an event of an open job; one of a job that has ended is left out, as nobody waits for it any more."""
        with self._lock:
            seq = self._next.get(event.job)
            if seq is None:
                return
            if isinstance(event, END_EVENTS):
                del self._next[event.job]
            else:
                self._next[event.job] = seq + 1
            self._on_event(replace(event, seq=seq))

    def jobs(self) -> tuple[str, ...]:
        """Jobs that have not ended, in order of submission."""
        with self._lock:
            return tuple(self._next)
