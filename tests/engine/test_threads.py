"""Small work is done by one thread, and afterwards as many compute as before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from modules.engine.threads import SMALL_WORK, threads_for


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("rows", "side", "threads"), [(2, 16, 1), (2, 64, 2), (40, 16, 2)])
def test_threads_are_as_many_as_the_work_is_worth(rows: int, side: int, threads: int) -> None:
    weight_bytes = int(SMALL_WORK / (4 * 16 * 16))
    with threads_for(torch.empty(rows, 4, side, side), weight_bytes):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_between_leaves_the_threads_as_they_were() -> None:
    small = torch.empty(2, 4, 8, 8)
    with pytest.raises(ZeroDivisionError), threads_for(small, 1):
        print(1 / 0)
    assert torch.get_num_threads() == 2
