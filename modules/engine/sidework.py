"""Threads beside the engine's: what must not make the sampler wait. Pillow and zlib let go of the interpreter lock."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from threading import Condition, Thread

logger = logging.getLogger(__name__)

Work = Callable[[], None]


class _Worker:
    """One daemon thread that is started with the first work and ends with `close`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: Thread | None = None
        self._changed = Condition()
        self._busy = False
        self._closed = False

    def _take(self) -> Work | None:
        raise NotImplementedError

    def _pending(self) -> bool:
        raise NotImplementedError

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = Thread(target=self._loop, name=self._name, daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._pending() or self._closed)
                work = self._take()
                if work is None:
                    return
                self._busy = True
            try:
                work()
            except Exception:
                logger.exception("Work beside the sampler failed.")
            del work  # what it holds (a picture) is not to live until the next one comes

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do; False where that took longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy and not self._pending(), timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Finish what is pending and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)


class Line(_Worker):
    """Everything, one after another, in order."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._work: deque[Work] = deque()

    def put(self, work: Work) -> None:
        """Add work at the end of the line. Returns at once."""
        with self._changed:
            self._work.append(work)
            self._start()

    def _take(self) -> Work | None:
        return self._work.popleft() if self._work else None

    def _pending(self) -> bool:
        return bool(self._work)


class Latest(_Worker):
    """Only the newest work per key, of at most `bound` keys: whoever is late is dropped, never waited for."""

    def __init__(self, name: str, bound: int = 8) -> None:
        super().__init__(name)
        self._bound = bound
        self._work: OrderedDict[Hashable, Work] = OrderedDict()
        self.dropped = 0

    def put(self, key: Hashable, work: Work) -> None:
        """Add work in place of what still waits under `key`. Returns at once."""
        with self._changed:
            if self._work.pop(key, None) is not None:
                self.dropped += 1
            elif len(self._work) >= self._bound:
                self._work.popitem(last=False)
                self.dropped += 1
            self._work[key] = work
            self._start()

    def drop(self, key: Hashable) -> None:
        """Forget what waits under `key`."""
        with self._changed:
            self._work.pop(key, None)

    def _take(self) -> Work | None:
        return self._work.popitem(last=False)[1] if self._work else None

    def _pending(self) -> bool:
        return bool(self._work)
