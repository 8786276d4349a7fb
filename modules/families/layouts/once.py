"""Answers about a header that every family asks for: found once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from modules.core.checkpoint import Header

Answer = TypeVar("Answer")
_KEPT = 4  # of the last headers: families are asked one after the other about one


class _Same:
    """A header as a cache's key: itself, not what is in it."""

    def __init__(self, header: Header) -> None:
        self.header = header

    def __hash__(self) -> int:
        return id(self.header)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.header is self.header


def once(find: Callable[[Header], Answer]) -> Callable[[Header], Answer]:
    """Remember the answers about the last few headers; errors are not remembered. For pure functions of a header."""

    @functools.lru_cache(maxsize=_KEPT)
    def kept(same: _Same) -> Answer:
        return find(same.header)

    @functools.wraps(find)
    def answer(header: Header) -> Answer:
        return kept(_Same(header))

    return answer
