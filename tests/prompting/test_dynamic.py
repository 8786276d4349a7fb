"""Choices and wildcards: what is drawn, again for the same seed, and that other text passes unchanged."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.core.errors import RequestError
from modules.prompting.dynamic import MAX_CONSTRUCTS, MAX_DEPTH, Template, Wildcards, read, restored

NONE = Wildcards(())


@pytest.fixture
def files(tmp_path: Path) -> Wildcards:
    (tmp_path / "animals").mkdir()
    (tmp_path / "colour.txt").write_text(
        "red\n# not a colour\n\nblue\n100% {green}\nsee http://x.y // z\n", encoding="utf-8"
    )
    (tmp_path / "animals" / "birds.txt").write_text("crow\n", encoding="utf-8")
    (tmp_path / "animals" / "cats.txt").write_text("lynx\n", encoding="utf-8")
    (tmp_path / "scene.txt").write_text("a __animals/birds__ on a {hill|roof}\n", encoding="utf-8")
    (tmp_path / "circle.txt").write_text("again __circle__\n", encoding="utf-8")
    (tmp_path / "pantry.yaml").write_text(
        "food:\n  fruit: [pear]\n  heavy:\n    - 99::iron\n    - tin\n", encoding="utf-8"
    )
    return Wildcards((tmp_path,))


def drawn(text: str, wildcards: Wildcards = NONE, count: int = 60) -> set[str]:
    template = Template(text, wildcards)
    return {template.draw(seed) for seed in range(count)}


def test_choices() -> None:
    assert drawn("a {red|blue} {cat|dog}") == {"a red cat", "a red dog", "a blue cat", "a blue dog"}
    assert drawn("{2$$a|b|c}") == {"a,b", "b,a", "a,c", "c,a", "b,c", "c,b"}
    assert drawn("{1-2$$ and $$a|b}") == {"a", "b", "a and b", "b and a"}
    assert drawn("{!a|b} { !a|b}") == {"a a", "a b", "b a", "b b"}  # of all combinations a picture shows one
    assert drawn("{a|{b|c}}") == {"a", "b", "c"}
    assert drawn("{|very} big") == {" big", "very big"}
    assert drawn("${x=!{a|b}}${x}${x}") == {"aa", "bb"}


def test_weights_weigh() -> None:
    template = Template("{9::a|1::b}", NONE)
    counts = Counter(template.draw(seed) for seed in range(1000))
    assert 850 < counts["a"] < 950


def test_the_same_seed_draws_the_same(files: Wildcards) -> None:
    text = "__colour__ {1|2|3|4|5|6|7|8} __scene__"
    assert [Template(text, files).draw(seed) for seed in range(9)] == [Template(text, files).draw(s) for s in range(9)]


def test_cyclical_choices_go_on_from_picture_to_picture() -> None:
    template = Template("{@a|b|c}", NONE)
    assert [template.draw(7 + index, index) for index in range(4)] == ["a", "b", "c", "a"]


def test_wildcards(files: Wildcards) -> None:
    assert drawn("__colour__", files) == {"red", "blue", "100% {green}", "see http://x.y // z"} or drawn(
        "__colour__", files
    ) == {"red", "blue", "100% green", "see http://x.y // z"}
    assert drawn("__animals/*__", files) == {"crow", "lynx"}
    assert drawn("__scene__", files) == {"a crow on a hill", "a crow on a roof"}
    assert drawn("__food/fruit__", files) == {"pear"}
    counts = Counter(Template("__food/heavy__", files).draw(seed) for seed in range(200))
    assert counts["iron"] > 180
    assert files.names() == (
        "animals/birds", "animals/cats", "circle", "colour", "food/fruit", "food/heavy", "scene",
    )  # fmt: skip


def test_a_wildcard_that_is_not_there_stays_in_the_text(files: Wildcards) -> None:
    template = Template("a __nothing__ and a __colour__ and __../secret__", files)
    assert template.unknown() == ("nothing",)
    assert template.draw(1).startswith("a __nothing__ and a ")
    assert template.draw(1).endswith("__../secret__")


def test_files_as_macos_and_windows_leave_them(tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301.txt").write_text("mocha\n", encoding="utf-8-sig")
    (tmp_path / "._cafe\u0301.txt").write_bytes(b"\0\5\x16\7 Mac OS X")
    wildcards = Wildcards((tmp_path,))
    assert wildcards.names() == ("caf\u00e9",)
    for name in ("caf\u00e9", "cafe\u0301", "*"):
        assert drawn(f"__{name}__", wildcards) == {"mocha"}


def test_new_files_are_seen(tmp_path: Path) -> None:
    wildcards = Wildcards((tmp_path,))
    assert Template("__new__", wildcards).draw(1) == "__new__"
    (tmp_path / "new.txt").write_text("fresh", encoding="utf-8")
    assert Template("__new__", wildcards).draw(1) == "fresh"


@pytest.mark.parametrize(
    "text",
    [
        "", "a cat", "a stray { brace", "and } another", "}{", "100% cotton, $5, #1", "http://x.y/z // not a comment",
        "/* neither */", "snake__case and __", "_ _", "a:b::c", "[a|b] (x:1.2) <lora:y:1>", "@someone", "%", "$", "$$",
        "\\{a|b\\", "emoji 🦊 {", "a  b\n\n c ", "!", "~",
    ],
)  # fmt: skip
def test_what_is_no_notation_passes_unchanged(text: str) -> None:
    template = Template(text, NONE)
    assert not template.unreadable
    assert template.draw(3) == text


def test_a_stray_brace_beside_a_choice_is_text() -> None:
    assert drawn("{ a {b|c}") == {"{ a b", "{ a c"}
    assert drawn("50% {b|c} $1 } http://x") == {"50% b $1 } http://x", "50% c $1 } http://x"}
    assert read("{ a {b|c}").stray == (0,)


def test_automatic1111s_notations_survive_beside_choices() -> None:
    text = "(a {red|red} cat:1.2) [x:y:0.5] [m|n] AND <lora:z:0.8> \\(really\\) BREAK"
    assert drawn(text) == {text.replace("{red|red}", "red")}


@pytest.mark.parametrize("text", ["{5$$}", "${unset}", "{a::b::c|%{x}}", "{2$$$$}", "%{a}", "{-$$a}", "{1-$$"])
def test_odd_notations_are_drawn_or_taken_as_text_or_named(text: str) -> None:
    template = Template(text, NONE)
    try:
        assert isinstance(template.draw(1), str)
    except RequestError as error:
        found = error
    else:
        return
    assert (found.field, bool(found.accepted)) == ("prompt", True)


def test_a_wildcard_that_holds_itself_is_named(files: Wildcards) -> None:
    with pytest.raises(RequestError, match="prompt"):
        Template("__circle__", files).draw(1)


def test_text_that_grows_without_end_is_refused() -> None:
    names = [f"v{number}" for number in range(24)]
    doubling = "".join(f"${{{b}=${{{a}}}${{{a}}}}}" for a, b in pairwise(names))
    template = Template(f"${{v0=x}}{doubling}${{v23}}", NONE)
    assert template.dynamic
    with pytest.raises(RequestError, match="pieces"):
        template.draw(1)


def test_too_many_notations_are_refused() -> None:
    with pytest.raises(RequestError, match="negative_prompt"):
        Template("{a|b}" * (MAX_CONSTRUCTS + 1), NONE, field="negative_prompt")


def test_braces_too_deep_are_text() -> None:
    deep = "{" * (MAX_DEPTH + 3) + "a" + "}" * (MAX_DEPTH + 3)
    assert drawn(deep) == {"{{{a}}}"}


@pytest.mark.parametrize(
    "text", ["{" * 100_000, "__" * 50_000, "{a|" * 30_000, "${" * 50_000, "_" * 100_000, "__a" * 33_000]
)
@pytest.mark.timeout(20)
def test_the_longest_texts_are_read(text: str) -> None:
    assert restored(read(text).text) == text


@given(st.text(st.sampled_from("ab{}|$:_% \n@!~()1.,/*#")))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read(text: str) -> None:
    template = Template(text, NONE)
    try:
        first = template.draw(5)
    except RequestError:
        return
    assert template.draw(5) == first
    if not template.spots:
        assert first == text


def test_random_strings_are_drawn_or_refused() -> None:
    draw = random.Random(3)
    drawn_texts = 0
    for _ in range(2_000):
        text = "".join(draw.choices("{}|$_ab%:1-@!~ ", k=draw.randrange(24)))
        with suppress(RequestError):
            Template(text, NONE).draw(1)
            drawn_texts += 1
    assert drawn_texts > 1_900


def test_a_weight_that_no_number_holds_leaves_the_text_as_it_is() -> None:
    text = "{" + "9" * 400 + "::a|b}"
    template = Template(text, NONE)
    assert template.unreadable
    assert template.draw(1) == text
