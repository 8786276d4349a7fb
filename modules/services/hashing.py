"""SHA-256 of model files, computed by one background thread that is never in anyone's way."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 4 << 20  # between two chunks the thread looks whether it is to pause or end


@dataclass(frozen=True)
class HashJob:
    """A file as it was when it was asked for; a hash of anything else is not reported. key: the asker's."""

    key: str
    path: Path
    size: int
    mtime_ns: int


OnHash = Callable[[HashJob, str], None]


class Hasher:
    """Hashes files one after another in a thread of lowest priority; the urgent ones first, and even while paused.

    on_hash(job, sha256) is called in that thread. Files that are gone, changed or unreadable by then are left out.
    """

    def __init__(self, on_hash: OnHash) -> None:
        self._on_hash = on_hash
        self._changed = threading.Condition()
        self._waiting: deque[HashJob] = deque()
        self._known: set[HashJob] = set()
        self._urgent: set[HashJob] = set()
        self._paused = False
        self._closing = False
        self._thread: threading.Thread | None = None

    def request(self, job: HashJob, *, urgent: bool = False) -> None:
        """Hash a file some time; urgent: before all others. A file that was asked for before is not done twice."""
        with self._changed:
            if self._closing or (job in self._known and not urgent):
                return
            if urgent:
                self._urgent.add(job)
            if job in self._known:
                if job not in self._waiting:  # in work, or done
                    self._changed.notify_all()
                    return
                self._waiting.remove(job)
            self._known.add(job)
            if urgent:
                self._waiting.appendleft(job)
            else:
                self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="model-hashes", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Stop reading what nobody waits for at the next chunk, or go on."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread; it stops within one chunk."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        _lowest_priority()
        while (job := self._next()) is not None:
            sha256 = self._hash(job)
            if sha256 is not None:
                self._on_hash(job, sha256)

    def _next(self) -> HashJob | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or (self._waiting and self._may_read(self._waiting[0])))
            return None if self._closing else self._waiting.popleft()

    def _may_read(self, job: HashJob) -> bool:
        return not self._paused or job in self._urgent

    def _may_go_on(self, job: HashJob) -> bool:
        """Wait while paused. False where this is over: for good, or because an urgent file came; it is redone then."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._may_read(job) or self._urgent_waits())
            if self._closing:
                return False
            if self._may_read(job):
                return True
            self._waiting.insert(1, job)
            return False

    def _urgent_waits(self) -> bool:
        return bool(self._waiting) and self._waiting[0] in self._urgent

    def _hash(self, job: HashJob) -> str | None:
        digest = hashlib.sha256()
        buffer = bytearray(_CHUNK_BYTES)
        try:
            with job.path.open("rb", buffering=0) as file:
                stat = os.fstat(file.fileno())
                if (stat.st_size, stat.st_mtime_ns) != (job.size, job.mtime_ns):
                    return None
                while count := file.readinto(buffer):
                    digest.update(memoryview(buffer)[:count])
                    if not self._may_go_on(job):
                        return None
                after = os.fstat(file.fileno())
        except OSError:  # gone, or on a disk that was unplugged: the catalog says so when it lists the file
            return None
        same = (after.st_size, after.st_mtime_ns) == (job.size, job.mtime_ns)
        return digest.hexdigest() if same else None


def _lowest_priority() -> None:
    """Linux gives threads priorities of their own; elsewhere they share the process's, and hashing only reads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
