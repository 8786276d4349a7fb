"""Which of the jobs in an engine make pictures: those that have a seat. The others wait for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from modules.engine.task import Task

SEATS = 8  # jobs that make pictures at once; each further one waits until one of these has finished a batch


class Seats:
    """The jobs that are not over. For the engine's thread."""

    def __init__(self, count: int = SEATS) -> None:
        self._count = count
        self._tasks: dict[str, Task] = {}
        self._waiting: deque[Task] = deque()
        self._seated: list[Task] = []

    def __iter__(self) -> Iterator[Task]:
        return iter(tuple(self._tasks.values()))

    def get(self, job: str) -> Task | None:
        """A job that is not over."""
        return self._tasks.get(job)

    def add(self, task: Task) -> None:
        """A job comes, and waits."""
        self._tasks[task.job] = task
        self._waiting.append(task)

    def take(self) -> Task | None:
        """The next job that waits, which now has a seat; None where nobody waits or no seat is free."""
        if not self._waiting or len(self._seated) >= self._count:
            return None
        task = self._waiting.popleft()
        self._seated.append(task)
        return task

    def goes_round(self, task: Task) -> bool:
        """A job has finished a batch. True where it lost its seat: whoever waits has waited for a whole batch."""
        if not self._waiting:
            return False
        self._seated.remove(task)
        self._waiting.append(task)
        return True

    def leave(self, task: Task) -> None:
        """A job is over, whether it had a seat or not."""
        del self._tasks[task.job]
        for line in (self._seated, self._waiting):
            if task in line:
                line.remove(task)

    def clear(self) -> None:
        """Forget all jobs."""
        self._tasks.clear()
        self._waiting.clear()
        self._seated.clear()
