"""The attention grammar against AUTOMATIC1111's documented behaviour, and that no text breaks it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.prompting.attention import MAX_WEIGHT, Break, Piece, parse_attention

# From AUTOMATIC1111's documentation of its prompt parser and its wiki's "Attention/emphasis".
DOCUMENTED = {
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", 1.1), (" word", 1.0)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ],
    "a (word)": [("a ", 1.0), ("word", 1.1)],
    "a ((word))": [("a ", 1.0), ("word", 1.21)],
    "a [word]": [("a ", 1.0), ("word", 0.9091)],
    "a (word:1.5)": [("a ", 1.0), ("word", 1.5)],
    "a (word:0.25)": [("a ", 1.0), ("word", 0.25)],
    r"a \(word\)": [("a (word)", 1.0)],
}

EDGES = {
    "": [],
    "()": [],
    "a()b": [("ab", 1.0)],
    "a)b]c": [("a)b]c", 1.0)],
    "a:1.2)": [("a:1.2)", 1.0)],
    "a:b": [("a:b", 1.0)],
    "(a:1.2": [("a:1.2", 1.1)],
    "(a : 1.2 )b": [("a ", 1.2), ("b", 1.0)],
    "(a:-1)": [("a", -1.0)],
    "(a:+.5)": [("a", 0.5)],
    "(a:1.2.3)b": [("a:1.2.3", 1.1), ("b", 1.0)],
    "(a:.)b": [("a:.", 1.1), ("b", 1.0)],
    f"(a:{'9' * 400})b": [("a:" + "9" * 400, 1.1), ("b", 1.0)],
    "[a:1.2]": [("a:1.2", 0.9091)],
    "([a)b]c": [("a", 1.0), ("b", 0.9091), ("c", 1.0)],
    "a\\b": [("ab", 1.0)],
    "a\\\\b": [("a\\b", 1.0)],
    "\\": [],
    "[cat:dog:10]": [("cat:dog:10", 0.9091)],
    "<lora:name:0.5> a AND b": [("<lora:name:0.5> a AND b", 1.0)],
}


@pytest.mark.parametrize("text", [*DOCUMENTED, *EDGES])
def test_weights(text: str) -> None:
    pieces = [piece for piece in parse_attention(text) if isinstance(piece, Piece)]
    expected = {**DOCUMENTED, **EDGES}[text]
    assert [piece.text for piece in pieces] == [words for words, _ in expected]
    assert [piece.weight for piece in pieces] == pytest.approx([weight for _, weight in expected], rel=1e-4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a BREAK b", (Piece("a"), Break(), Piece("b"))),
        ("BREAK", (Break(),)),
        ("a BREAK BREAK b", (Piece("a"), Break(), Break(), Piece("b"))),
        ("a break b BREAKS", (Piece("a break b BREAKS"),)),
        ("a,BREAK\nb", (Piece("a,"), Break(), Piece("b"))),
        (" a  BREAK\t BREAK  b ", (Piece(" a"), Break(), Break(), Piece("b "))),
        ("(a BREAK b:2)", (Piece("a", 2.0), Break(), Piece("b", 2.0))),
    ],
)
def test_break(text: str, expected: tuple[Piece | Break, ...]) -> None:
    assert parse_attention(text) == expected


def sound(text: str) -> bool:
    pieces = parse_attention(text)
    return all(isinstance(piece, Break) or (piece.text and abs(piece.weight) <= MAX_WEIGHT) for piece in pieces)


def test_ten_thousand_random_strings() -> None:
    chance = random.Random(0)
    letters = [*"()[]\\:.12 -+ab,|<>{}#\n", "BREAK", " BREAK ", ":1.2)", "((", "))", "AND"]
    for _ in range(10_000):
        text = "".join(chance.choices(letters, k=chance.randrange(60)))
        assert sound(text), text


@settings(max_examples=500, deadline=None)
@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    assert sound(text)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_escaped_text_is_plain(text: str) -> None:
    escaped = "".join("\\" + letter if letter in "()[]\\" else letter for letter in text).replace("BREAK", "break")
    assert parse_attention(escaped) == ((Piece(text.replace("BREAK", "break")),) if text else ())


@pytest.mark.parametrize(
    "text",
    ["(" * 50_000 + "a", "(a" * 30_000, "[a" * 30_000, "(a:9)" * 15_000, "a BREAK " * 9_000, " " * 100_000 + "a"],
)
def test_long_texts_are_read_in_one_pass(text: str) -> None:
    assert parse_attention(text)  # a parser that is quadratic in the brackets takes minutes here
