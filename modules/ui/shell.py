"""What a tab is given and what it is: the door through which tabs come onto the page.

A tab is one file in modules/ui/tabs/ with one decorated function that builds its components inside the tab:

    @tab("gallery", label="tab.gallery", rank=30)
    def gallery(shell: Shell) -> None:
        block('<div id="inf-gallery"></div>')

Its browser side is a file in modules/ui/static/ that calls `mount("#inf-gallery", element => ...)` of live.js.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from modules.core.plugin import Registry, collect
from modules.ui.texts import Texts

if TYPE_CHECKING:
    from modules.app import App


@dataclass(frozen=True, kw_only=True)
class Shell:
    """The page around the tabs. checkpoint, vae, text_encoder, clip_skip: the components on
    top, the two in between kept by static/parts.js; page: the Blocks being built."""

    app: App
    texts: Texts
    page: gr.Blocks
    checkpoint: gr.Dropdown
    vae: gr.Textbox
    text_encoder: gr.Textbox
    clip_skip: gr.Number


@dataclass(frozen=True, kw_only=True)
class Tab:
    """A tab's description. label: key of its title in the texts; rank: place in the row of tabs, from the left."""

    name: str
    label: str
    build: Callable[[Shell], None]
    rank: int = 1000


def tab(name: str, *, label: str, rank: int = 1000) -> Callable[[Callable[[Shell], None]], Tab]:
    """Mark a function as a tab; the keywords are `Tab`'s fields."""

    def describe(build: Callable[[Shell], None]) -> Tab:
        return Tab(name=name, label=label, build=build, rank=rank)

    return describe


def all_tabs() -> Registry[Tab]:
    """The tabs of modules/ui/tabs/ and of plug-ins, from left to right."""
    return collect("modules.ui.tabs", Tab, group="inferenz.tabs")
