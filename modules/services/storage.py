"""Files that are whole or not there: written beside their place, synced, then given their name in one step."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from modules.core.errors import StorageError
from modules.core.held import is_held, patiently

# Hidden, and told apart from people's files: .inferenz-PID-RANDOM.tmp
_TEMPORARY = re.compile(r"\.inferenz-(\d+)-[0-9a-f]+\.tmp")
_STALE_SECONDS = 3600.0  # of a temporary file whose process number has been given to another process since
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


@dataclass(frozen=True)
class FoundFile:
    """A file as a folder listing tells it. mtime_ns: modification time, nanoseconds."""

    path: Path
    size: int
    mtime_ns: int


class Files:
    """The file system as the history uses it: the one seam that tests replace to fill the disk or cut the power."""

    windows = os.name == "nt"

    def publish(self, data: bytes, final: Path, *, durable: bool = True) -> None:
        """Write `data` as the new file `final`: never half, never over another file, kept after a power cut.

        durable False: without waiting for the disk, for what can be made again; after a power cut it may be damaged.

        Raises FileExistsError where `final` exists, StorageError for all else, and leaves nothing behind then.
        """
        temporary = final.with_name(f".inferenz-{os.getpid()}-{secrets.token_hex(6)}.tmp")
        try:
            _make_folder(final.parent)
            try:
                if durable:
                    self.write(temporary, data)
                else:
                    self.put(temporary, data)
                self.name(temporary, final)
            finally:
                patiently(lambda: temporary.unlink(missing_ok=True))
            if durable:
                self.sync_folder(final.parent)
        except FileExistsError:
            raise
        except OSError as error:
            raise storage_error(f"{final.name} could not be saved", final.parent, error) from error

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file and wait until the disk has it."""
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def put(self, path: Path, data: bytes) -> None:
        """Write a new file without waiting for the disk."""
        with path.open("xb") as file:
            file.write(data)

    def name(self, temporary: Path, final: Path) -> None:
        """Give a finished file its name, in one step. Raises FileExistsError rather than replace another file."""
        if self.windows:
            patiently(lambda: self.rename(temporary, final))  # Windows refuses to replace
            return
        try:
            self.link(temporary, final)  # unlike rename, a link refuses to replace
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # No hard links (exFAT, some network shares): an empty file claims the name, then is replaced
            final.open("xb").close()
            try:
                temporary.replace(final)
            except BaseException:
                final.unlink(missing_ok=True)
                raise

    def rename(self, source: Path, target: Path) -> None:
        """Another name for a file; on Windows never over another file."""
        source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        """A second name for a file. Raises OSError where the file system has no hard links."""
        os.link(source, target)

    def sync_folder(self, folder: Path) -> None:
        """Wait until the disk has the folder's new names, where the system lets a program ask for it."""
        if self.windows:
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # some network file systems do not sync folders
                os.fsync(handle)
        finally:
            os.close(handle)

    def move(self, source: Path, target: Path) -> Path:
        """Move a file within the outputs folder and return where it is now: beside `target` where that is taken.

        Raises FileNotFoundError where `source` is gone, StorageError for all else.
        """
        try:
            _make_folder(target.parent)
            for number in range(1_000_000):
                place = target.with_name(f"{target.stem}~{number}{target.suffix}") if number else target
                with contextlib.suppress(FileExistsError):
                    self.name(source, place)
                    source.unlink(missing_ok=True)  # a link leaves both names, and a rename only the new one
                    return place
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not source.exists():  # else a path is too long for Windows
                raise
            raise storage_error(f"{source.name} could not be moved", target.parent, error) from error
        raise StorageError(f"{source.name} could not be moved: every name in {target.parent} is taken.")

    def remove(self, path: Path) -> None:
        """Delete a file; one that is gone already is fine. Raises StorageError."""
        try:
            patiently(lambda: path.unlink(missing_ok=True))
        except OSError as error:
            raise storage_error(f"{path.name} could not be deleted", path.parent, error) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # not the kind that means: take the next name
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file where a folder is needed") from error


def storage_error(what: str, folder: Path, error: OSError) -> StorageError:
    """What the system's error means, in a sentence. what: begins it, with the file's name."""
    if error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", -1), getattr(errno, "EFBIG", -1)}:
        return StorageError(f"{what}: the disk that holds {folder} is full.", hint="Free some space and try again.")
    if is_held(error):
        return StorageError(f"{what}: another program has it open.", hint="Close that program and try again.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StorageError(f"{what}: {folder} is not writable.", hint="Check the folder's permissions.")
    return StorageError(f"{what}: {error.strerror or error}.")


def remove_stale(folder: Path) -> int:
    """Delete temporary files and claimed names that a killed process left in `folder`; returns how many."""
    removed = 0
    for entry in _entries(folder):
        try:
            stat = entry.stat(follow_symlinks=False)
            match = _TEMPORARY.fullmatch(entry.name)
            old = time.time() - stat.st_mtime > _STALE_SECONDS
            left = match is not None and (old or not psutil.pid_exists(int(match[1])))
            claimed = (
                stat.st_size == 0 and old and re.fullmatch(r"\d{5,}-\d+\.(png|jpg|webp|avif)", entry.name) is not None
            )
            if left or claimed:
                os.unlink(entry.path)
                removed += 1
        except OSError:  # it went away, or is held by a program on Windows: the next start tries again
            continue
    return removed


def walk(root: Path, suffixes: frozenset[str], *, deep: bool = True) -> Iterator[FoundFile]:
    """Every file below `root` (deep False: in it) whose lower-case suffix is one of `suffixes`; hidden ones left out.

    Links to folders are followed, each real folder once, so loops end; folders that cannot be read are left out.
    """
    seen: set[str] = set()
    pending = [root]
    while pending:
        folder = pending.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(folder):
            if entry.name.startswith(".") or not _storable(entry.name):
                continue
            try:
                if entry.is_dir():
                    pending += [folder / entry.name] if deep else []
                elif os.path.splitext(entry.name)[1].lower() in suffixes:
                    stat = entry.stat()
                    yield FoundFile(folder / entry.name, stat.st_size, stat.st_mtime_ns)
            except OSError:  # a broken link, or deleted since the folder was listed
                continue


def _storable(name: str) -> bool:
    """Whether a name is text: on Linux it may be any bytes, which neither JSON nor SQLite can carry."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []
