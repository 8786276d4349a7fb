"""Finished pictures: saved so that nothing is ever half there, found again, put aside and brought back.

A picture is saved in this order: its file under a temporary name, synced to the disk; its name; its record. Whatever
moment the process is killed at, `recover` completes what was begun.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from modules.core.errors import PictureMissing, StorageError
from modules.core.generation import GenerationPlan
from modules.imaging.formats import SaveFormat, finished
from modules.services.indexer import Indexer, IndexProgress
from modules.services.pictures import TRASH, PictureIndex, PictureRecord, favourite_key
from modules.services.provenance import EngineFacts, contents, picture_texts
from modules.services.state import StateDatabase
from modules.services.storage import Files, remove_stale
from modules.services.thumbnails import Thumbnails

__all__ = ["EngineFacts", "History", "IndexProgress", "PictureRecord"]

FOLDER = "txt2img-images"
HIDDEN = ".inferenz"  # below outputs/: index, trash, thumbnails
log = logging.getLogger(__name__)
_NUMBERED = re.compile(r"(\d{5,9})-")


class History:
    """The pictures below `outputs`. Thread-safe; several processes may save into one folder.

    date_folders: whether to save into a folder per day; save_format, metadata: how files are written, and whether their
    texts go into them; all three are asked at each picture. now: seconds since 1970. files: the file system.
    thumbnail_bytes: bound of the thumbnail cache. on_progress: told how far the index is, in its thread.
    """

    def __init__(
        self,
        outputs: Path,
        state: StateDatabase,
        *,
        date_folders: Callable[[], bool] = lambda: True,
        save_format: Callable[[], SaveFormat] = SaveFormat,
        metadata: Callable[[], bool] = lambda: True,
        now: Callable[[], float] = time.time,
        files: Files | None = None,
        thumbnail_bytes: int = 512 << 20,
        full_text: bool = True,
        on_progress: Callable[[IndexProgress], None] = lambda _: None,
    ) -> None:
        self.outputs = outputs
        self._state = state
        self._date_folders = date_folders
        self._save_format = save_format
        self._metadata = metadata
        self._now = now
        self._files = files or Files()
        self._saving = threading.Lock()
        self._unrecorded: dict[tuple[str, int], tuple[Path, float]] = {}  # (job, index) -> its file, and when
        self._least: dict[str, int] = {}  # day folder -> running number above those found in it
        self._index = _opened(outputs / HIDDEN / "pictures.sqlite3", full_text)
        self._indexer = Indexer(outputs, self._index, self._favourites, on_progress)
        self._thumbnails = Thumbnails(outputs / HIDDEN / "thumbs", self._files, limit=thumbnail_bytes)

    def save(
        self, png: bytes, plan: GenerationPlan, index: int, job: str, *, model_hash: str | None, facts: EngineFacts
    ) -> PictureRecord:
        """Write picture `index` of a job into outputs/ and into the index; both are done when it returns.

        png: as the engine encoded it. Raises StorageError (disk full, folder not writable): then nothing half-written
        is left. Where only the record could not be written the whole file stays; a second try or `recover` finds it.
        """
        known = self._unrecorded.pop((job, index), None)
        created = known[1] if known else self._now()
        wanted = self._save_format()
        texts = picture_texts(plan, index, job, model_hash=model_hash, facts=facts, created=created, saved=wanted)
        if known and known[0].is_file():
            path = known[0]
        else:
            data, kind = finished(png, texts if self._metadata() else {}, wanted)
            path = self._publish(data, plan.seeds[index], created, kind)
        stat = path.stat()
        width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
        relative = path.relative_to(self.outputs).as_posix()
        made = contents(width, height, texts)
        try:
            (picture,) = self._index.put([(relative, made, stat.st_size, stat.st_mtime_ns, created)], ())
        except StorageError as error:
            # The file stays: it is whole, and worth more than its record
            self._unrecorded[job, index] = (path, created)
            raise StorageError(
                f"{relative} is saved, but not in the gallery yet: {error.message}", hint="The next start finds it."
            ) from error
        self._thumbnails.request(path, stat.st_mtime_ns, stat.st_size)
        if self._indexer.progress.error:  # there is room again: what was left out can follow
            self._indexer.start(everything=False)
        return self._index.get(picture)

    def page(
        self,
        before: int | None = None,
        limit: int = 60,
        *,
        favourites: bool = False,
        trash: bool = False,
        query: str = "",
    ) -> tuple[PictureRecord, ...]:
        """At most `limit` (1 to 500) pictures, newest first, from after picture `before` on.

        query: words that prompt, checkpoint, sampler or file name must all have, each from a word's beginning.
        """
        limit = max(1, min(limit, 500))
        return self._index.page(before, limit, favourites=favourites, trash=trash, query=query)

    def count(self, *, favourites: bool = False, trash: bool = False, query: str = "") -> int:
        """How many pictures `page` gives in all."""
        return self._index.count(favourites=favourites, trash=trash, query=query)

    def get(self, picture: int) -> PictureRecord:
        """Raises PictureMissing."""
        return self._index.get(picture)

    def of_job(self, job: str) -> tuple[PictureRecord, ...]:
        """The pictures a job has saved so far, in its order."""
        return self._index.of_job(job)

    def file(self, picture: int) -> Path:
        """The picture's file. Raises PictureMissing, also where somebody deleted the file."""
        record = self.get(picture)
        path = self.outputs / record.path
        if not path.is_file():
            raise PictureMissing(f"The file {record.path} is gone.", hint="The next start forgets it.")
        return path

    def thumbnail(self, picture: int) -> bytes:
        """A small WebP or JPEG (`imaging.encode.media_type` tells). Raises PictureMissing or StorageError."""
        record = self.get(picture)
        return self._thumbnails.get(self.file(picture), record.mtime_ns, record.bytes)

    def set_favourite(self, picture: int, favourite: bool) -> PictureRecord:
        """Mark or unmark; kept in the state database, so that it outlives the index. Raises PictureMissing."""
        record = self.get(picture)
        key = favourite_key(record.job, record.index, record.path)
        with self._state.write() as connection:
            if favourite:
                connection.execute("INSERT OR IGNORE INTO favourites VALUES (?, ?)", (key, self._now()))
            else:
                connection.execute("DELETE FROM favourites WHERE key = ?", (key,))
        self._index.set_favourite(picture, favourite)
        return self.get(picture)

    def trash(self, pictures: Iterable[int]) -> int:
        """Put pictures aside; returns how many. Those in the trash or gone already are left as they are."""
        return sum(self._move(picture, trash=True) for picture in pictures)

    def restore(self, pictures: Iterable[int]) -> int:
        """Bring pictures back from the trash; returns how many."""
        return sum(self._move(picture, trash=False) for picture in pictures)

    def empty_trash(self) -> int:
        """Delete what is in the trash for good; returns how many pictures. Raises StorageError where it cannot."""
        records = self._index.trashed()
        for record in records:
            path = self.outputs / record.path
            self._files.remove(path)
            self._thumbnails.forget(path, record.mtime_ns, record.bytes)
            self._index.forget([record.path])
            with self._state.write() as connection:
                key = favourite_key(record.job, record.index, record.path)
                connection.execute("DELETE FROM favourites WHERE key = ?", (key,))
        return len(records)

    def recover(self) -> int:
        """To be called at start: complete what a killed process began; returns how many pictures that were.

        The newest pictures of the newest day folders are done when it returns, all else follows in the background.
        Where the index cannot be written that is logged, and `progress` tells it.
        """
        folders = self._recent_folders()
        for folder in folders:
            remove_stale(folder)
        try:
            found = self._indexer.read_folders(folders)
        except StorageError as error:  # a full disk: what is indexed can be seen all the same, and the trash emptied
            log.error("New pictures could not be put into the gallery: %s", error)
            found = 0
        self._indexer.start(everything=False)
        return found

    def rebuild(self) -> None:
        """Read every file again, in the background; pictures keep their ids. Files that are gone are forgotten."""
        self._indexer.start(everything=True)

    def progress(self) -> IndexProgress:
        """How far `recover` or `rebuild` is."""
        return self._indexer.progress

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until index and thumbnails are up to date; False where the index is not after `timeout` seconds."""
        if not self._indexer.wait(timeout):
            return False
        self._thumbnails.drain()
        return True

    def close(self) -> None:
        """End the threads and close the index."""
        self._indexer.close()
        self._thumbnails.close()
        self._index.close()

    def _publish(self, data: bytes, seed: int, created: float, suffix: str) -> Path:
        folder = self.outputs / FOLDER
        if self._date_folders():
            folder /= time.strftime("%Y-%m-%d", time.localtime(created))
        name = folder.relative_to(self.outputs).as_posix()
        while True:
            with self._saving:
                if name not in self._least:
                    self._least[name] = _least_number(folder)
                number = self._index.next_number(name, self._least[name])
            path = folder / f"{number:05d}-{seed}.{suffix}"
            try:
                self._files.publish(data, path)
            except FileExistsError:  # put there by hand or by another program: the next number is free
                continue
            return path

    def _move(self, picture: int, *, trash: bool) -> bool:
        try:
            record = self.get(picture)
        except PictureMissing:
            return False
        if record.trashed == trash:
            return False
        there = f"{TRASH}{record.path}" if trash else record.path.removeprefix(TRASH)
        try:
            place = self._files.move(self.outputs / record.path, self.outputs / there)
        except FileNotFoundError:
            self._index.forget([record.path])
            return False
        self._index.move(picture, place.relative_to(self.outputs).as_posix())
        return True

    def _favourites(self) -> frozenset[str]:
        return frozenset(row["key"] for row in self._state.rows("SELECT key FROM favourites"))

    def _recent_folders(self) -> list[Path]:
        """The folders a process may have been writing to when it was killed: the two newest days, and the parent."""
        parent = self.outputs / FOLDER
        try:
            days = sorted(entry for entry in parent.iterdir() if re.fullmatch(r"\d{4}-\d\d-\d\d", entry.name))
        except OSError:
            return []
        return [*days[-2:], parent]


def _opened(path: Path, full_text: bool) -> PictureIndex:
    try:
        return PictureIndex(path, full_text=full_text)
    except StorageError as error:
        damaged = isinstance(error.__cause__, sqlite3.DatabaseError) and not isinstance(
            error.__cause__, sqlite3.OperationalError
        )
        if not damaged:
            raise
    # Damaged, and everything in it stands in the files
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return PictureIndex(path, full_text=full_text)


def _least_number(folder: Path) -> int:
    """One above the highest running number in `folder`; the only time the folder is listed."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return 0
    return 1 + max((int(match[1]) for name in names if (match := _NUMBERED.match(name))), default=-1)
