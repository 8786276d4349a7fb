"""Styles: named pieces of prompt that are added to what was typed, as AUTOMATIC1111 adds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PLACE = "{prompt}"  # where in a style the typed text goes; without it the style follows after a comma


@dataclass(frozen=True, kw_only=True)
class Style:
    """One style. Its texts may be empty."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def styled(text: str, additions: Iterable[str]) -> str:
    """The text with the styles' texts applied one after another, each to what the former ones made of it."""
    for addition in additions:
        if PLACE in addition:
            text = addition.replace(PLACE, text)
        else:
            text = ", ".join(part for part in (text.strip(), addition.strip()) if part)
    return text


def with_styles(prompt: str, negative_prompt: str, styles: Iterable[Style]) -> tuple[str, str]:
    """(prompt, negative prompt) with every style applied."""
    chosen = tuple(styles)
    return (
        styled(prompt, (style.prompt for style in chosen)),
        styled(negative_prompt, (style.negative_prompt for style in chosen)),
    )
