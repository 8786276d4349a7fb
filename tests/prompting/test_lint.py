"""What the linter finds, where, and that it finds nothing in prompts people are proud of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.prompting.lint import findings

FINE = (
    "", "a cat", "masterpiece, (best quality:1.2), [bad], ((deep))", "[a:b:10] [c|d] [e::0.5] [f:1.5]",
    r"\(not a bracket\)", "a :1.2 AND b :0.5", "<lora:style:0.8> BREAK <hypernet:x:1>", "[(a] b)", "(x: 1.2)",
)  # fmt: skip


@pytest.mark.parametrize("text", FINE)
def test_nothing_is_found_in_a_fine_prompt(text: str) -> None:
    assert findings(text, 20) == ()


@pytest.mark.parametrize(
    ("text", "problem", "where"),
    [
        ("a (cat", "unclosed", "("),
        ("a [cat (dog)", "unclosed", "["),
        ("a cat)", "unopened", ")"),
        ("a cat]", "unopened", "]"),
        ("(cat:1,2)", "weight", "1,2"),
        ("(cat:1.2.3)", "weight", "1.2.3"),
        ("[a:b:30]", "late", ":30]"),
        ("[a:b:0]", "early", ":0]"),
        ("[a::0.01]", "early", ":0.01]"),
        ("a <lora:x:1", "tag", "<"),
    ],
)
def test_a_problem_is_found_at_its_place(text: str, problem: str, where: str) -> None:
    (found,) = findings(text, 20)
    assert found.problem == problem
    assert text[found.start : found.end] == where


def test_problems_come_in_order_and_not_without_end() -> None:
    found = findings("(" * 500 + "]", 20)
    assert len(found) == 20
    assert [each.start for each in found] == sorted(each.start for each in found)


@given(st.text(st.sampled_from("ab()[]:|<>\\lor 1.2,")))
def test_any_text_can_be_linted(text: str) -> None:
    for found in findings(text, 10):
        assert 0 <= found.start < found.end <= len(text)
