"""Subscriptions: who watches jobs gets the latest snapshot of each, and can never slow down what he watches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic
from types import TracebackType

from modules.services.views import JobView


class Subscription:
    """Snapshots, coalesced: however slowly they are read, at most one per job is waiting, and it is the latest.

    Only the names of changed jobs wait here; the snapshot is built when it is read. A context manager; iterating
    yields until `close`. wake: called at each change, for an event loop (`loop.call_soon_threadsafe(event.set)`);
    it must return at once.
    """

    def __init__(
        self,
        *,
        look: Callable[[str], JobView | None],
        forget: Callable[[Subscription], None],
        owner: str | None = None,
        wake: Callable[[], object] | None = None,
    ) -> None:
        self._look = look
        self._forget = forget
        self._owner = owner
        self._wake = wake
        self._changed: dict[str, None] = {}  # an ordered set
        self._condition = threading.Condition()
        self._closed = False

    def notify(self, job: str, owner: str) -> None:
        """Job `job` changed. Never blocks."""
        if self._owner is not None and owner != self._owner:
            return
        with self._condition:
            if self._closed:
                return
            self._changed.setdefault(job)
            self._condition.notify()
        if self._wake is not None:
            self._wake()

    def get(self, timeout: float | None = None) -> JobView | None:
        """The next changed job, waiting at most `timeout` seconds; None after that time or once closed."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            with self._condition:
                while not self._changed and not self._closed:
                    left = None if deadline is None else deadline - monotonic()
                    if left is not None and left <= 0:
                        return None
                    self._condition.wait(left)
                if self._closed:
                    return None
                job = next(iter(self._changed))
                del self._changed[job]
            view = self._look(job)
            if view is not None:
                return view

    def drain(self) -> tuple[JobView, ...]:
        """Every changed job, without waiting."""
        with self._condition:
            changed = tuple(self._changed)
            self._changed.clear()
        return tuple(view for view in map(self._look, changed) if view is not None)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """End it; a reader that waits is woken. May be called twice and from any thread."""
        with self._condition:
            self._closed = True
            self._changed.clear()
            self._condition.notify_all()
        self._forget(self)

    def __iter__(self) -> Iterator[JobView]:
        while (view := self.get()) is not None:
            yield view

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
