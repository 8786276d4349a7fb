"""Chunks of 75 with AUTOMATIC1111's comma rule."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from modules.prompting.chunks import CHUNK_TOKENS, Token, split_chunks

COMMA = 7


def lengths(ids: Sequence[int | None], backtrack: int = 20) -> list[int]:
    tokens = (None if number is None else Token(number) for number in ids)
    return [len(chunk) for chunk in split_chunks(tokens, COMMA, backtrack=backtrack)]


def test_short_and_empty() -> None:
    assert lengths([]) == [0]
    assert lengths([1] * 75) == [75]
    assert lengths([1] * 76) == [75, 1]
    assert lengths([1] * 200) == [75, 75, 50]


def test_a_near_comma_takes_its_phrase_along() -> None:
    assert lengths([1] * 60 + [COMMA] + [2] * 20) == [61, 20]
    assert lengths([1] * 55 + [COMMA] + [2] * 20) == [56, 20]  # 75 - 55 = 20 tokens back, the last that counts
    assert lengths([1] * 54 + [COMMA] + [2] * 21) == [75, 1]
    assert lengths([1] * 74 + [COMMA] + [2]) == [75, 1]
    assert lengths([1] * 60 + [COMMA] + [2] * 20, backtrack=0) == [75, 6]


def test_a_comma_that_does_not_fit_begins_the_next_chunk() -> None:
    assert lengths([1] * 70 + [COMMA] + [1] * 4 + [COMMA, 1]) == [75, 2]


def test_the_phrase_moved_along_may_be_split_no_further() -> None:
    chunks = list(split_chunks((Token(n) for n in [1] * 70 + [COMMA] + [2] * 80), COMMA))
    assert [len(chunk) for chunk in chunks] == [71, 75, 5]


def test_breaks() -> None:
    assert lengths([1, None, 2]) == [1, 1]
    assert lengths([None]) == [0]
    assert lengths([1, None]) == [1]
    assert lengths([None, None, 1]) == [0, 0, 1]


@given(st.lists(st.one_of(st.none(), st.sampled_from([1, 2, 3, COMMA])), max_size=400), st.integers(0, 40))
def test_nothing_is_lost(ids: list[int | None], backtrack: int) -> None:
    chunks = list(split_chunks((None if n is None else Token(n, n / 10) for n in ids), COMMA, backtrack=backtrack))
    kept = [token for chunk in chunks for token in chunk]
    assert kept == [Token(n, n / 10) for n in ids if n is not None]
    assert max(len(chunk) for chunk in chunks) <= CHUNK_TOKENS
