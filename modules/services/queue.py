"""The queue: whose job is next, and the table that remembers jobs when the process dies."""

from __future__ import annotations

import json
import sqlite3
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from modules.core.errors import RequestError
from modules.core.generation import GenerationPlan, parse_plan, plan_json
from modules.services.views import JobView, stored_json, stored_view

KEPT_ENDED = 200  # ended jobs that are remembered over a restart


class FairQueue:
    """Waiting jobs: first come, first served within an owner, round robin between owners. Not thread-safe."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[str]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, job: str, owner: str) -> None:
        self._waiting.setdefault(owner, deque()).append(job)

    def count(self, owner: str) -> int:
        """How many jobs of `owner` wait."""
        return len(self._waiting.get(owner, ()))

    def take(self, skip: frozenset[str] | set[str] = frozenset()) -> str | None:
        """The next job, leaving out the owners in `skip`; its owner goes to the end of the round."""
        for owner, jobs in self._waiting.items():
            if owner not in skip:
                job = jobs.popleft()
                if jobs:
                    self._waiting.move_to_end(owner)
                else:
                    del self._waiting[owner]
                return job
        return None

    def remove(self, job: str) -> bool:
        """Leave a job out; False where it is not waiting."""
        for owner, jobs in self._waiting.items():
            if job in jobs:
                jobs.remove(job)
                if not jobs:
                    del self._waiting[owner]
                return True
        return False

    def order(self) -> Iterator[str]:
        """The waiting jobs as they would be taken if nothing else came."""
        rest = [list(jobs) for jobs in self._waiting.values()]
        for turn in range(max(map(len, rest), default=0)):
            yield from (jobs[turn] for jobs in rest if turn < len(jobs))


@dataclass(frozen=True, kw_only=True)
class StoredJob:
    """A row: a job that was not over when the process ended. plan None: written by another version, not readable."""

    id: str
    owner: str
    plan: GenerationPlan | None
    created: float


class JobStore(Protocol):
    """Where jobs are remembered. Called from any thread; raises StorageError or sqlite3.Error."""

    def add(self, view: JobView) -> None:
        """A job was queued."""

    def end(self, view: JobView) -> None:
        """A job is over."""

    def give_up(self, job: str, now: float) -> None:
        """A job that cannot be read has failed; it is not among the unfinished any more. now: seconds since 1970."""

    def unfinished(self) -> tuple[StoredJob, ...]:
        """Jobs that were queued or running, oldest first."""

    def ended(self, limit: int) -> tuple[JobView, ...]:
        """The last ended jobs, oldest first."""


class MemoryStore:
    """Remembers nothing: for the command line, whose job is not to be resumed by a server started later."""

    def add(self, view: JobView) -> None: ...

    def end(self, view: JobView) -> None: ...

    def give_up(self, job: str, now: float) -> None: ...

    def unfinished(self) -> tuple[StoredJob, ...]:
        return ()

    def ended(self, limit: int) -> tuple[JobView, ...]:
        return ()


class Database(Protocol):
    """What is asked of the state database. write: one transaction, committed on leaving, one writer at a time."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]: ...
    def write(self) -> AbstractContextManager[sqlite3.Connection]: ...


class SqliteStore:
    """Jobs in the table `jobs` of the state database; `report` holds an ended job's last snapshot."""

    def __init__(self, state: Database) -> None:
        self._state = state

    def add(self, view: JobView) -> None:
        plan = json.dumps(plan_json(view.plan), ensure_ascii=False)
        with self._state.write() as connection:
            connection.execute(
                "INSERT INTO jobs (id, owner, state, plan, created) VALUES (?, ?, 'queued', ?, ?)",
                (view.id, view.owner, plan, view.created),
            )

    def end(self, view: JobView) -> None:
        with self._state.write() as connection:
            connection.execute(
                "UPDATE jobs SET state = ?, started = ?, ended = ?, report = ? WHERE id = ?",
                (view.state, view.started, view.ended, stored_json(view), view.id),
            )
            connection.execute(
                "DELETE FROM jobs WHERE ended IS NOT NULL AND number NOT IN"
                " (SELECT number FROM jobs WHERE ended IS NOT NULL ORDER BY number DESC LIMIT ?)",
                (KEPT_ENDED,),
            )

    def give_up(self, job: str, now: float) -> None:
        with self._state.write() as connection:
            connection.execute("UPDATE jobs SET state = 'failed', ended = ? WHERE id = ?", (now, job))

    def forget(self, before: float) -> None:
        """Forget jobs that ended before this moment, seconds since 1970; their pictures stay."""
        with self._state.write() as connection:
            connection.execute("DELETE FROM jobs WHERE ended < ?", (before,))

    def unfinished(self) -> tuple[StoredJob, ...]:
        rows = self._state.rows("SELECT id, owner, plan, created FROM jobs WHERE ended IS NULL ORDER BY number")
        return tuple(
            StoredJob(id=job, owner=owner, plan=_plan(plan), created=created) for job, owner, plan, created in rows
        )

    def ended(self, limit: int) -> tuple[JobView, ...]:
        rows = self._state.rows(
            "SELECT report FROM jobs WHERE ended IS NOT NULL ORDER BY number DESC LIMIT ?", (limit,)
        )
        views = (stored_view(text) for (text,) in reversed(rows))
        return tuple(view for view in views if view is not None)


def _plan(text: str) -> GenerationPlan | None:
    try:
        return parse_plan(json.loads(text))
    except (ValueError, TypeError, RequestError):
        return None
