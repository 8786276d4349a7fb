"""Prompt editing against AUTOMATIC1111's documented behaviour, and that no text breaks it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.core.errors import RequestError
from modules.prompting.grammar import DEPTH, Alternation, Edit, Node, Plain, Tree, parse, render
from modules.prompting.stages import Part, Stage, parts_of, stages_of

EVALUATIONS = 10

# What AUTOMATIC1111 makes of a prompt in ten steps: [(the last step, counted from 1, that sees a text), ...]
DOCUMENTED = {
    "test": [(10, "test")],
    "a [b:3]": [(3, "a "), (10, "a b")],
    "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a [[b]]")],
    "[(a:2):3]": [(3, ""), (10, "(a:2)")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")],
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [unbalanced": [(10, "a [unbalanced")],
    "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "a [{b|d{:.5] c": [(5, "a  c"), (10, "a {b|d{ c")],
    "((a][:b:c [d:3]": [(3, "((a][:b:c "), (10, "((a][:b:c d")],
    "[a|(b:1.1)]": [(n, ("a", "(b:1.1)")[(n - 1) % 2]) for n in range(1, 11)],
    "[fe|]male": [(n, ("female", "male")[(n - 1) % 2]) for n in range(1, 11)],
}

EDGES = {
    "": [(10, "")],
    "[a::4]": [(4, "a"), (10, "")],
    "[a:b:0]": [(10, "b")],
    "[a:b:0.0]": [(10, "b")],
    "[a:b:99]": [(10, "a")],
    "[a:b:1.0]": [(10, "a")],
    "[a:b:1.5]": [(10, "a")],  # in the hires pass
    "[a:b:1e1]": [(10, "a")],
    "[a:b:0.25]": [(2, "a"), (10, "b")],
    "[a:b:c]": [(10, "[a:b:c]")],
    "[a:b:-3]": [(10, "[a:b:-3]")],
    "[a:b:c:3]": [(10, "[a:b:c:3]")],
    "[a]": [(10, "[a]")],
    "(a|b) [c:d:2]": [(2, "(a|b) c"), (10, "(a|b) d")],
    r"\[a:b:3\]": [(10, r"\[a:b:3\]")],
    r"[a\:x:b:3]": [(3, r"a\:x"), (10, "b")],
    "[a (b:c:3]": [(10, "[a (b:c:3]")],
    "(a [b) c:d:3]": [(10, "(a [b) c:d:3]")],
    "[ape (x:1.2):bee:5]": [(5, "ape (x:1.2)"), (10, "bee")],
    "[[a|b]:c:2]": [(1, "a"), (2, "b"), (10, "c")],
    "[a:b:2][c:d:2]": [(2, "ac"), (10, "bd")],
    "[same:same:2]": [(10, "same")],
    "a\\": [(10, "a\\")],
}


@pytest.mark.parametrize(("text", "wanted"), [*DOCUMENTED.items(), *EDGES.items()])
def test_stages_are_as_documented(text: str, wanted: list[tuple[int, str]]) -> None:
    assert [(stage.until, stage.text) for stage in stages_of(text, EVALUATIONS).stages] == wanted


def test_the_first_stage_lasts_one_evaluation_longer_than_it_says() -> None:
    stages = stages_of("[a:b:3]", EVALUATIONS)
    assert [stages.at(k) for k in range(12)] == ["a"] * 4 + ["b"] * 8
    assert stages.texts == ("a", "b")
    alternation = stages_of("[a|b|c]", 6)
    assert "".join(alternation.at(k) for k in range(6)) == "aabcab"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a cat AND a dog", [("a cat", 1.0), ("a dog", 1.0)]),
        ("a cat :1.2 AND a dog: -.5 ", [("a cat", 1.2), ("a dog", -0.5)]),
        ("a cat:2", [("a cat", 2.0)]),
        ("BRAND a (cat:1.2)", [("BRAND a (cat:1.2)", 1.0)]),
        ("AND", [("", 1.0), ("", 1.0)]),
        ("a AND b AND c :.5", [("a", 1.0), ("b", 1.0), ("c", 0.5)]),
    ],
)
def test_prompts_joined_by_and_have_weights(text: str, wanted: list[tuple[str, float]]) -> None:
    assert [(part.stages.at(0), part.weight) for part in parts_of(text, EVALUATIONS)] == wanted


def test_each_part_has_stages_of_its_own() -> None:
    first, second = parts_of("[a:b:2] AND c", EVALUATIONS)
    assert first == Part(stages_of("[a:b:2]", EVALUATIONS))
    assert second.stages.stages == (Stage(10, "c"),)


PLAIN = st.text(st.sampled_from("ab ,.<>0"), min_size=1, max_size=6) | st.sampled_from(["(x:1.2)", r"\[", r"\:", "[z]"])
WHENS = st.sampled_from(["0", "3", "10", ".5", "0.25", "1.5", "2.", "1e1"])


def _joined(nodes: list[Node]) -> Tree:
    found: list[Node] = []
    for node in nodes:
        if isinstance(node, Plain) and found and isinstance(found[-1], Plain):
            found[-1] = Plain(found[-1].text + node.text)
        else:
            found.append(node)
    return tuple(found)


TREES: st.SearchStrategy[Tree] = st.recursive(
    st.lists(PLAIN.map(Plain), max_size=2).map(lambda nodes: _joined(list(nodes))),
    lambda inner: st.lists(
        PLAIN.map(Plain)
        | st.builds(Edit, inner, inner, WHENS)
        | st.lists(inner, min_size=2, max_size=3).map(lambda options: Alternation(tuple(options))),
        max_size=3,
    ).map(lambda nodes: _joined(list(nodes))),
    max_leaves=12,
)


@given(TREES)
def test_a_tree_survives_being_written(tree: Tree) -> None:
    assert parse(render(tree)) == tree


@given(st.text())
@settings(max_examples=300)
def test_any_text_has_stages(text: str) -> None:
    tree = parse(text)
    assert parse(render(tree)) == tree
    for part in parts_of(text, 7):
        assert part.stages.stages[-1].until == 7


def test_ten_thousand_random_strings() -> None:
    draw = random.Random(7)
    for _ in range(10_000):
        text = "".join(draw.choices(r"ab:|[]()\ .5" + "\n", k=draw.randrange(40)))
        tree = parse(text)
        assert parse(render(tree)) == tree
        assert stages_of(text, 4).stages[-1].until == 4


LONGEST = (
    "[" * 100_000, "[a:" * 30_000, "[a|" * 30_000 + "]" * 30_000, "(" * 50_000 + "]" * 50_000, "AND " * 99,
    "[[a]:" * 20_000 + "1]" * 20_000, "<a:" * 30_000, ":" * 100_000, "[|" + "a:" * 49_000 + "]", "[(" * 50_000 + "]",
)  # fmt: skip


@pytest.mark.parametrize("text", LONGEST, ids=range(len(LONGEST)))
@pytest.mark.timeout(20)
def test_the_longest_prompts_are_read(text: str) -> None:
    assert parts_of(text, 20)
    assert parse(render(parse(text))) == parse(text)


def test_more_parts_than_anybody_joins_are_refused() -> None:
    with pytest.raises(RequestError, match="joins 25,001 prompts"):
        parts_of("AND " * 25_000, 20)


def test_what_nests_too_deep_is_text() -> None:
    deep = "[a:" * (DEPTH + 1) + "x" + ":1]" * (DEPTH + 1)
    (outer,) = parse(deep[3:-3])
    assert isinstance(outer, Edit)
    assert isinstance(parse(deep)[0], Plain)
