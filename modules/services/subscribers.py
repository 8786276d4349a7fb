"""Who is called when something of a service changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, ParamSpec

Told = ParamSpec("Told")


class Subscribers(Generic[Told]):
    """Callbacks, told in the order in which they came, in the thread of whoever tells. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[Told, None]] = []

    def add(self, callback: Callable[Told, None]) -> Callable[[], None]:
        """Call `callback` from now on. Returns how to end that, which may be called twice."""
        with self._lock:
            self._callbacks.append(callback)

        def end() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return end

    def tell(self, *args: Told.args, **kwargs: Told.kwargs) -> None:
        """Call everyone who is there now."""
        with self._lock:
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            callback(*args, **kwargs)
