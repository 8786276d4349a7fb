"""Which server a data folder belongs to: two that shared one queue would both make every picture again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from modules.core.errors import StorageError


class FolderLock:
    """Held while `held` is true; given back when closed, and by the system when the process ends, however it ends.

    Raises StorageError where the folder cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(
                f"The folder {path.parent} cannot be used: {error.strerror or error}.",
                hint="Choose a folder that you may write with --data-dir.",
            ) from error
        self.held = _lock(self._descriptor)

    def close(self) -> None:
        """Give it back; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor, self.held = -1, False


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
