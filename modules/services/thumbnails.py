"""Small versions of pictures: made by a thread of their own, kept as files, bounded in number of bytes."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from pathlib import Path

from modules.core.errors import StorageError
from modules.imaging.encode import media_type
from modules.imaging.pictures import thumbnail
from modules.services.storage import Files, remove_stale, walk

_SUFFIX = ".thumb"  # WebP or JPEG; `imaging.encode.media_type` tells which
_WAITING = 1000  # pictures; those beyond are made when they are first looked at


class Thumbnails:
    """The cache below `folder`. side: pixels of the longer side. limit: bytes of all files together."""

    def __init__(self, folder: Path, files: Files, *, side: int = 384, limit: int = 512 << 20) -> None:
        self._folder = folder
        self._files = files
        self._side = side
        self._limit = limit
        self._waiting: queue.Queue[tuple[Path, str] | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._used: int | None = None  # bytes; None until they were counted
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="thumbnails", daemon=True)
        self._thread.start()

    def request(self, path: Path, mtime_ns: int, size: int) -> None:
        """Make this picture's thumbnail soon; returns at once."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait((path, self._key(path, mtime_ns, size)))

    def get(self, path: Path, mtime_ns: int, size: int) -> bytes:
        """The thumbnail, made now if it has to be. Raises StorageError where the picture cannot be read."""
        key = self._key(path, mtime_ns, size)
        with contextlib.suppress(FileNotFoundError):
            data = self._file(key).read_bytes()
            if media_type(data).startswith("image/"):
                return data
            with contextlib.suppress(StorageError):
                self._files.remove(self._file(key))  # a power cut can leave it empty: nothing waits for the disk here
        data = self._make(path, key)
        with contextlib.suppress(StorageError):  # the picture is shown, whatever becomes of older ones
            self._prune()
        return data

    def forget(self, path: Path, mtime_ns: int, size: int) -> None:
        """The picture is gone for good."""
        self._files.remove(self._file(self._key(path, mtime_ns, size)))

    def drain(self) -> None:
        """Wait until everything requested so far is made."""
        self._waiting.join()

    def close(self) -> None:
        """End the thread; thumbnails not made yet are made when they are asked for."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join()

    def _key(self, path: Path, mtime_ns: int, size: int) -> str:
        # Not the folder: a picture keeps its thumbnail on its way to the trash and back
        return hashlib.blake2b(f"{path.name}|{mtime_ns}|{size}|{self._side}".encode(), digest_size=12).hexdigest()

    def _file(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}{_SUFFIX}"

    def _make(self, path: Path, key: str) -> bytes:
        data = thumbnail(path, self._side)
        # A cache that cannot be written (a full disk) still shows its pictures; another thread may have been quicker
        with contextlib.suppress(FileExistsError, StorageError):
            self._files.publish(data, self._file(key), durable=False)
            with self._lock:
                self._used = None if self._used is None else self._used + len(data)
        return data

    def _work(self) -> None:
        for shard in _folders(self._folder):
            remove_stale(shard)
        while True:
            wanted = self._waiting.get()
            try:
                if wanted is None or self._closing.is_set():
                    return
                path, key = wanted
                if not self._file(key).exists():
                    # Broken or deleted meanwhile: whoever looks at it is told then
                    with contextlib.suppress(StorageError):
                        self._make(path, key)
                        self._prune()
            finally:
                self._waiting.task_done()

    def _prune(self) -> None:
        with self._lock:
            if self._used is not None and self._used <= self._limit:
                return
            found = sorted(walk(self._folder, frozenset({_SUFFIX})), key=lambda file: file.mtime_ns, reverse=True)
            self._used = sum(file.size for file in found)
            if self._used <= self._limit:
                return
            while found and self._used > self._limit * 0.9:
                oldest = found.pop()
                self._files.remove(oldest.path)
                self._used -= oldest.size


def _folders(parent: Path) -> list[Path]:
    try:
        return [entry for entry in parent.iterdir() if entry.is_dir()]
    except OSError:
        return []  # nothing was kept yet
