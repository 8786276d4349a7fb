"""A file that another program holds, as Windows tells it."""

from __future__ import annotations

import errno

import pytest

from modules.core.held import PAUSES, is_held, patiently


def refused(number: int | None) -> PermissionError:
    error = PermissionError(errno.EACCES, "Zugriff verweigert")
    if number is not None:
        error.winerror = number  # type: ignore[attr-defined, unused-ignore]
    return error


class Held:
    """Something to do that is refused a number of times."""

    def __init__(self, times: int, number: int | None) -> None:
        self.left, self.number = times, number
        self.waited: list[float] = []

    def __call__(self) -> str:
        if self.left:
            self.left -= 1
            raise refused(self.number)
        return "done"


@pytest.mark.parametrize("number", [5, 32, 33])
def test_what_is_held_for_a_moment_is_done_after_it(number: int) -> None:
    held = Held(3, number)
    assert patiently(held, pause=held.waited.append) == "done"
    assert held.waited == list(PAUSES[:3])


def test_what_stays_held_is_told() -> None:
    held = Held(100, 32)
    with pytest.raises(PermissionError):
        patiently(held, pause=held.waited.append)
    assert held.waited == list(PAUSES)


@pytest.mark.parametrize("number", [None, 1])
def test_nobody_waits_for_a_permission_that_is_missing(number: int | None) -> None:
    held = Held(1, number)
    with pytest.raises(PermissionError):
        patiently(held, pause=held.waited.append)
    assert held.waited == []


def test_only_a_file_that_is_open_elsewhere_is_held() -> None:
    assert is_held(refused(32))
    assert not is_held(refused(5))
    assert not is_held(refused(None))
