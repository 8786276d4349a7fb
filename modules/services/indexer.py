"""Brings the picture index in line with the files: after a killed process, a deleted index, or a move by hand."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from modules.core.errors import StorageError
from modules.imaging.formats import PICTURE_SUFFIXES
from modules.services.pictures import TRASH, PictureIndex
from modules.services.provenance import Contents, read_contents
from modules.services.storage import FoundFile, walk

log = logging.getLogger(__name__)

_BATCH = 200  # pictures of one transaction: a picture being saved waits for at most one batch
_NAMED = 20  # unreadable files that the progress names


@dataclass(frozen=True, kw_only=True)
class IndexProgress:
    """How far the index is. done of total files were read; unreadable: how many are no whole pictures, problems: why.

    error: what stopped it, "" while nothing did.
    """

    state: Literal["idle", "scanning", "reading"] = "idle"
    done: int = 0
    total: int = 0
    unreadable: int = 0
    problems: tuple[str, ...] = ()
    error: str = ""


OnProgress = Callable[[IndexProgress], None]


class Indexer:
    """Reads new and changed files below `outputs` into `index`, in one thread at a time; the newest come first.

    favourites: the keys that are favourites now.
    """

    def __init__(
        self, outputs: Path, index: PictureIndex, favourites: Callable[[], Collection[str]], on_progress: OnProgress
    ) -> None:
        self._outputs = outputs
        self._index = index
        self._favourites = favourites
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._again: bool | None = None  # asked for while running; True: everything
        self.progress = IndexProgress()

    def start(self, *, everything: bool) -> None:
        """Begin in the background; if it is running, once more after that. everything: unchanged files as well."""
        with self._lock:
            if self._closing.is_set():
                return
            if self._thread is not None and self._thread.is_alive():
                self._again = bool(self._again) or everything
                return
            self._thread = threading.Thread(target=self._run, args=(everything,), name="picture-index", daemon=True)
            self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for what was started; False where it still runs after `timeout` seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def close(self) -> None:
        self._closing.set()
        self.wait()

    def read_folders(self, folders: Sequence[Path]) -> int:
        """Index the newest of these folders' new files now, one batch at most; returns how many.

        For where a killed process was writing to: what it had not recorded are the last pictures there.
        """
        found = self._found(folders, deep=False)
        known = self._index.known()
        new = [(path, file) for path, file in found.items() if path not in known]
        return self._read(_newest_first(new)[:_BATCH], known)

    def _run(self, everything: bool) -> None:
        try:
            while True:
                self._bring_in_line(everything)
                with self._lock:
                    if self._again is None or self._closing.is_set():
                        self._thread = None
                        return
                    everything, self._again = self._again, None
        except StorageError as error:
            log.error("The index of the pictures is not complete: %s", error)
            self._tell(replace(self.progress, state="idle", error=str(error)))

    def _bring_in_line(self, everything: bool) -> None:
        self._tell(IndexProgress(state="scanning"))
        self._index.align_favourites(self._favourites())
        found = self._found([self._outputs, self._outputs / TRASH], deep=True)
        known = self._index.known()
        new = [
            (path, file) for path, file in found.items() if everything or known.get(path) != (file.size, file.mtime_ns)
        ]
        new = _newest_first(new)
        gone = [path for path in known if path not in found and not (self._outputs / path).exists()]
        self._index.forget(gone)
        self._tell(IndexProgress(state="reading", total=len(new)))
        self._read(new, known)
        self._tell(replace(self.progress, state="idle"))

    def _found(self, folders: Sequence[Path], *, deep: bool) -> dict[str, FoundFile]:
        files = (file for folder in folders for file in walk(folder, PICTURE_SUFFIXES, deep=deep))
        return {file.path.relative_to(self._outputs).as_posix(): file for file in files}

    def _read(self, new: Sequence[tuple[str, FoundFile]], known: Mapping[str, tuple[int, int]]) -> int:
        count = 0
        for start in range(0, len(new), _BATCH):
            batch: list[tuple[str, Contents, int, int, float]] = []
            problems = list(self.progress.problems)
            unreadable = self.progress.unreadable
            for path, file in new[start : start + _BATCH]:
                if self._closing.is_set():
                    return count
                try:
                    made = read_contents(file.path)
                    # Saved without metadata: what the index knows of an unchanged file stands nowhere else
                    if made.says_nothing and known.get(path) == (file.size, file.mtime_ns):
                        continue
                    batch.append((path, made, file.size, file.mtime_ns, file.mtime_ns / 1e9))
                except StorageError as error:
                    if file.path.exists():  # else it went to the trash since the folders were listed
                        unreadable += 1
                        problems.append(str(error))
            # One that was deleted since it was read comes back with the next start at the latest, as gone
            self._index.put(batch, self._favourites())
            count += len(batch)
            done = min(start + _BATCH, len(new))
            problems = problems[:_NAMED]
            self._tell(replace(self.progress, done=done, unreadable=unreadable, problems=tuple(problems)))
        return count

    def _tell(self, progress: IndexProgress) -> None:
        self.progress = progress
        self._on_progress(progress)


def _newest_first(files: list[tuple[str, FoundFile]]) -> list[tuple[str, FoundFile]]:
    return sorted(files, key=lambda each: each[1].mtime_ns, reverse=True)
