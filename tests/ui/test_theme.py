"""Text is readable on every surface it stands on, in paper and ink (WCAG 2.2, success criterion 1.4.3)."""

from __future__ import annotations

import re

import pytest

from modules.ui.assets import STATIC
from modules.ui.theme import build_theme
from modules.ui.tokens import SCALES, TOKENS, token_css

PAIRS = (
    *((text, surface) for text in ("text", "muted") for surface in ("page", "surface", "raised", "field", "stage")),
    *(("accent-text", surface) for surface in ("page", "surface", "raised", "accent-soft", "stage")),
    ("text", "accent-soft"), ("on-accent", "accent"), ("on-accent", "accent-hover"), ("danger", "danger-soft"),
    ("danger", "page"), ("danger", "stage"), ("success", "surface"),
)  # fmt: skip


@pytest.mark.parametrize("side", [0, 1], ids=["paper", "ink"])
@pytest.mark.parametrize(("text", "surface"), PAIRS)
def test_contrast_is_at_least_four_and_a_half(text: str, surface: str, side: int) -> None:
    assert _contrast(TOKENS[text][side], TOKENS[surface][side]) >= 4.5


def test_both_families_have_every_token() -> None:
    css = token_css()
    for name in TOKENS:
        assert css.count(f"--{name}:") == 2


def test_the_stylesheet_uses_only_tokens_there_are() -> None:
    known = {*TOKENS, *SCALES, "w", "ratio", "part", "stage-height", "slider-fill", "range_progress"}
    for path in STATIC.glob("*.css"):
        assert set(re.findall(r"var\(--([\w-]+)", path.read_text(encoding="utf-8"))) <= known


def test_the_stylesheet_reaches_no_other_server_and_no_generated_class() -> None:
    css = (STATIC / "page.css").read_text(encoding="utf-8")
    assert "http" not in css
    assert "svelte" not in css


def test_the_theme_points_to_tokens() -> None:
    theme = build_theme()
    assert theme.body_background_fill == theme.body_background_fill_dark == "var(--page)"


def _contrast(one: str, two: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
