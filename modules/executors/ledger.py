"""The promise that every job ends exactly once, and that its events are numbered, whatever happens to its engine."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace

from modules.core import job as events
from modules.core.generation import GenerationPlan
from modules.core.job import Event, OnEvent

log = logging.getLogger(__name__)


@dataclass
class Entry:
    """A job in an executor. begun: an engine has worked on it. tries: engines it was handed to.

    asked: when it was interrupted, seconds of the monotonic clock.
    """

    job: str
    plan: GenerationPlan
    seq: int = 0
    begun: bool = False
    handed: bool = False
    tries: int = 0
    interrupted: bool = False
    asked: float = 0.0


class Ledger:
    """Jobs that have not ended. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}

    def add(self, job: str, plan: GenerationPlan) -> Entry:
        """Note a job. Raises ValueError where one of that name has not ended yet."""
        with self._lock:
            if job in self._entries:
                raise ValueError(f"Job {job} is in the executor already.")
            entry = self._entries[job] = Entry(job, plan)
            return entry

    def get(self, job: str) -> Entry | None:
        with self._lock:
            return self._entries.get(job)

    def entries(self) -> tuple[Entry, ...]:
        """The jobs that have not ended, in the order they came."""
        with self._lock:
            return tuple(self._entries.values())

    def hand(self, entry: Entry) -> bool:
        """True for the one caller who is to give this job to the engine that runs now."""
        with self._lock:
            if entry.handed:
                return False
            entry.handed = True
            entry.tries += 1
            return True

    def take_back(self, entry: Entry) -> None:
        """Its engine is gone, and the job is to be given to the next."""
        with self._lock:
            entry.handed = False

    def release(self, entry: Entry) -> None:
        """The job is another's now; what is still heard of it here is left out."""
        with self._lock:
            self._entries.pop(entry.job, None)

    def admit(self, event: Event) -> Event | None:
        """The event with its number within the job; None for one of a job that is unknown or has ended."""
        with self._lock:
            entry = self._entries.get(event.job)
            if entry is None:
                return None
            entry.seq += 1
            entry.begun = entry.begun or not isinstance(event, events.Queued)
            if isinstance(event, events.END_EVENTS):
                del self._entries[event.job]
            return replace(event, seq=entry.seq)

    def tell(self, on_event: OnEvent, event: Event) -> bool:
        """Admit an event and hand it on. False where the callback failed on it: the job has ended in Failed then.

        The caller is the thread on which all jobs depend, so nothing that a callback raises may reach it.
        """
        admitted = self.admit(event)
        if admitted is None:
            return True
        try:
            on_event(admitted)
        except Exception as error:
            log.exception("What job %s told of itself could not be taken in.", event.job)
            ended = events.Failed(
                job=event.job,
                code="engine",
                message=f"The server could not take in what the job told: {type(error).__name__}: {error}",
                hint="The log has the details.",
            )
        else:
            return True
        # After a last event that failed its entry is gone, yet whoever waits for the job still waits
        last = self.admit(ended) or replace(ended, seq=admitted.seq + 1)
        try:
            on_event(last)
        except Exception:
            log.exception("The failure of job %s could not be told.", event.job)
        return False
