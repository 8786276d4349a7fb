"""Prompts without their brackets, and the weights of their parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.prompting.attention import Break, parse_attention
from modules.prompting.whole import whole


def test_brackets_go_and_weights_stay() -> None:
    prompt = whole("a (red:1.5) [cat] \\(x\\)")
    assert prompt.text == "a red cat (x)"
    assert prompt.weighted
    assert [prompt.weight(at, at + 1) for at in range(len(prompt.text))] == pytest.approx(
        [1.0] * 2 + [1.5] * 3 + [1.0] + [1 / 1.1] * 3 + [1.0] * 4
    )


def test_plain_text_weighs_nothing() -> None:
    assert not whole("a red cat").weighted
    assert whole("").weight(0, 0) == 1.0
    assert whole("x").weight(5, 9) == 1.0


def test_a_break_is_a_space() -> None:
    assert whole("a BREAK b").text == "a b"


def test_without_brackets_all_is_text() -> None:
    prompt = whole("(a:1.5) BREAK", brackets=False)
    assert (prompt.text, prompt.weighted) == ("(a:1.5) BREAK", False)


def test_half_characters_are_read_as_unknown() -> None:
    assert whole("a\ud83d").text == "a\ufffd"


@given(text=st.text(st.sampled_from("ab ()[]:1.\\"), max_size=40))
def test_every_character_has_the_weight_of_its_piece(text: str) -> None:
    prompt = whole(text)
    pieces = [piece for piece in parse_attention(text) if not isinstance(piece, Break)]
    wanted = [piece.weight for piece in pieces for _ in piece.text]
    assert [prompt.weight(at, at + 1) for at in range(len(prompt.text))] == wanted
