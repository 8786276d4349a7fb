"""Files that another program holds for a moment, which Windows lets nobody rename, replace or delete meanwhile.

Virus scanners, the search index and backups look into a file as soon as it is written. Waiting a moment is what pip,
Go and others do as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION = 5, 32, 33  # Windows' numbers; the first can also mean: for good
PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds, between one try and the next


def patiently(act: Callable[[], T], *, pause: Callable[[float], object] = time.sleep) -> T:
    """Do what renames or deletes a file, again after a moment where another program holds it.

    Raises what `act` raises, at once if it is anything else. Elsewhere than on Windows nothing is ever held so.
    """
    for seconds in PAUSES:
        try:
            return act()
        except PermissionError as error:
            if windows_number(error) not in {ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION}:
                raise
        pause(seconds)
    return act()


def is_held(error: OSError) -> bool:
    """Whether an error says that another program has the file open."""
    return windows_number(error) in {SHARING_VIOLATION, LOCK_VIOLATION}


def windows_number(error: OSError) -> int | None:
    """Windows' own number of an error, which tells more than its errno; None elsewhere."""
    number: int | None = getattr(error, "winerror", None)
    return number
