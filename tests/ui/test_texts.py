"""Every language says everything, and everything the page asks for is there."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from modules.ui.assets import STATIC
from modules.ui.shell import all_tabs
from modules.ui.texts import languages, negotiate, texts_for

ENGLISH = texts_for("en").table
# Families of keys that are put together in the browser, as t(`state.${job.state}`) is.
COMPOSED = re.compile(r"t\(`([\w.]+)\$\{")


def test_there_are_three_languages() -> None:
    assert set(languages()) >= {"en", "de", "it"}


@pytest.mark.parametrize("language", languages())
def test_every_language_has_every_text_with_the_same_placeholders(language: str) -> None:
    table = texts_for(language).table
    assert set(table) == set(ENGLISH)
    for key, text in table.items():
        assert text.strip() == text, key
        assert text, key
        assert _places(text) == _places(ENGLISH[key]), key


def test_generate_is_generieren_in_german() -> None:
    assert texts_for("de")("generate") == "Generieren"


def test_every_text_the_browser_side_names_exists() -> None:
    named = set()
    for path in STATIC.glob("*.js"):
        code = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"""\bt\("([\w.]+)\"""", code)) | set(re.findall(r'"(keys\.\w+)"', code))
        for prefix in COMPOSED.findall(code):
            assert any(key.startswith(prefix) for key in ENGLISH), prefix
    assert named
    assert named <= set(ENGLISH)


def test_every_tab_has_a_title() -> None:
    assert {tab.label for tab in all_tabs().values()} <= set(ENGLISH)


@pytest.mark.parametrize(
    ("wished", "header", "expected"),
    [
        ("de", "", "de"),
        ("auto", "it-IT,it;q=0.9,en;q=0.8", "it"),
        ("auto", "fr,de;q=0.3,en;q=0.9", "en"),
        ("auto", "de-AT", "de"),
        ("auto", "fr, ja", "en"),
        ("auto", ";;q=,q=x;q=nonsense", "en"),
        ("xx", "", "en"),
    ],
)
def test_the_language_follows_wish_then_browser_then_english(wished: str, header: str, expected: str) -> None:
    assert negotiate(wished, header) == expected


def _places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}
