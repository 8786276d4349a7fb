"""Styles: named pieces of prompt that are added to what was typed, as AUTOMATIC1111 adds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modules.core.errors import RequestError
from modules.core.generation import MAX_PROMPT_CHARACTERS

PLACE = "{prompt}"  # where in a style the typed text goes; without it the style follows after a comma
MAX_CHARACTERS = 10 * MAX_PROMPT_CHARACTERS  # of a text that grows: comments may still go from it


@dataclass(frozen=True, kw_only=True)
class Style:
    """One style. Its texts may be empty."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def styled(text: str, additions: Iterable[str], *, field: str = "prompt") -> str:
    """The text with the styles' texts applied one after another, each to what the former ones made of it.

    Raises RequestError, naming `field`, before the text grows beyond MAX_CHARACTERS: a style that holds the place twice
    doubles it every time.
    """
    for addition in additions:
        places = addition.count(PLACE)
        length = len(addition) - places * len(PLACE) + max(places, 1) * len(text)
        if length > MAX_CHARACTERS:
            raise RequestError(
                field, f"becomes {length:,} characters long with its styles",
                accepted=f"text of at most {MAX_PROMPT_CHARACTERS:,} characters",
            )  # fmt: skip
        if PLACE in addition:
            text = addition.replace(PLACE, text)
        else:
            text = ", ".join(part for part in (text.strip(), addition.strip()) if part)
    return text


def with_styles(prompt: str, negative_prompt: str, styles: Iterable[Style]) -> tuple[str, str]:
    """(prompt, negative prompt) with every style applied. Raises RequestError as `styled`."""
    chosen = tuple(styles)
    return (
        styled(prompt, (style.prompt for style in chosen)),
        styled(negative_prompt, (style.negative_prompt for style in chosen), field="negative_prompt"),
    )
