"""styles.csv as AUTOMATIC1111 writes it, and what a style does to a prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.core.errors import RequestError, StorageError
from modules.prompting.styles import Style, styled, with_styles
from modules.services.styles import Styles, decoded, read_styles, write_styles

THEIRS = (
    "\ufeffname,prompt,negative_prompt\r\n"
    'None,,\r\n"--- PAINT ---",,\r\nOil,"oil painting, {prompt}, impasto","photo, ""render"""\r\n'
    'Sharp,"sharp\nfocus",\r\n'
)


def test_a_table_of_automatic1111_is_read() -> None:
    styles = {style.name: style for style in read_styles(THEIRS.removeprefix("\ufeff"))}
    assert styles["Oil"] == Style(
        name="Oil", prompt="oil painting, {prompt}, impasto", negative_prompt='photo, "render"'
    )
    assert styles["Sharp"].prompt == "sharp\nfocus"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1251", "cp1252"])
def test_what_spreadsheets_save_is_read_and_kept(encoding: str, tmp_path: Path) -> None:
    word = "снег" if encoding == "cp1251" else "Gemälde"
    data = f"name,prompt,negative_prompt\r\nOil,{word},\r\n".encode(encoding)
    text = decoded(data, system="cp1251" if encoding == "cp1251" else "utf-8")
    assert read_styles(text) == (Style(name="Oil", prompt=word),)
    if encoding != "cp1251":
        path = tmp_path / "styles.csv"
        path.write_bytes(data)
        styles = Styles(path)
        styles.save(Style(name="Ink"))
        assert styles.all()[0].prompt == word


def test_older_and_damaged_tables() -> None:
    assert read_styles("name,text\nold,words\n") == (Style(name="old", prompt="words"),)
    assert read_styles("") == ()
    assert read_styles("name,prompt,negative_prompt\n,nameless,\nshort\nlong,a,b,c,d\n") == (
        Style(name="short"), Style(name="long", prompt="a", negative_prompt="b"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "additions", "wanted"),
    [
        ("a cat", ["oil painting"], "a cat, oil painting"),
        ("a cat", ["a {prompt}, framed", "sharp"], "a a cat, framed, sharp"),
        ("", ["oil painting"], "oil painting"),
        ("a cat", [""], "a cat"),
        ("a {prompt} cat", ["x {prompt} {prompt}"], "x a {prompt} cat a {prompt} cat"),
        (" a cat ", ["in {prompt}"], "in  a cat "),
    ],
)
def test_a_style_is_added(text: str, additions: list[str], wanted: str) -> None:
    assert styled(text, additions) == wanted


def test_both_prompts_are_styled() -> None:
    style = Style(name="s", prompt="{prompt} here", negative_prompt="ugly")
    assert with_styles("cat", "dog", [style]) == ("cat here", "dog, ugly")


def test_styles_that_double_a_text_are_stopped_before_it_fills_the_memory() -> None:
    twice = Style(name="twice", prompt="{prompt}{prompt}", negative_prompt="{prompt} {prompt}")
    with pytest.raises(RequestError, match="prompt: becomes"):
        with_styles("cat", "", [twice] * 100)
    with pytest.raises(RequestError, match="negative_prompt: becomes"):
        with_styles("", "dog", [twice] * 100)


@pytest.mark.parametrize("text", ["\ud800", "a\0"])
@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_what_no_file_can_hold_is_refused_and_leaves_none(tmp_path: Path, field: str, text: str) -> None:
    with pytest.raises(RequestError, match=field):
        Styles(tmp_path / "styles.csv").save(Style(**{"name": "a", field: text}))
    assert list(tmp_path.iterdir()) == []


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n,"'), max_size=20)


@given(st.lists(st.builds(lambda n, p, q: Style(name=f"n{n}", prompt=p, negative_prompt=q), st.integers(), TEXT, TEXT)))
def test_what_is_written_is_read(styles: list[Style]) -> None:
    unique = {style.name: style for style in styles}
    assert {style.name: style for style in read_styles(write_styles(unique.values()))} == unique


def test_a_file_is_changed_and_seen_by_others(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    mine, other = Styles(path), Styles(path)
    assert mine.all() == ()
    mine.save(Style(name="Oil", prompt="oil"))
    mine.save(Style(name="Ink", prompt="ink, {prompt}"))
    mine.save(Style(name="Oil", prompt="oil paint"))
    assert [style.prompt for style in other.all()] == ["oil paint", "ink, {prompt}"]
    assert path.read_bytes().startswith(b"\xef\xbb\xbfname,prompt,negative_prompt")
    other.delete("Oil")
    other.delete("Oil")
    assert mine.chosen(["Ink"])[0].prompt == "ink, {prompt}"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_is_named(tmp_path: Path) -> None:
    styles = Styles(tmp_path / "styles.csv")
    with pytest.raises(RequestError, match="no style yet"):
        styles.chosen(["Oil"])
    for name in ("", " ", "a\nb", "x" * 201):
        with pytest.raises(RequestError, match="name"):
            styles.save(Style(name=name))
    blocked = Styles(tmp_path)  # a folder
    with pytest.raises(StorageError):
        blocked.all()
