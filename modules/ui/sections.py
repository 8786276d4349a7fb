"""Sections of the controls that few need: closed at first, with a dot while something inside is not at its default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr

from modules.ui.markup import block, icon
from modules.ui.shell import Shell


@contextmanager
def closed_section(shell: Shell, name: str) -> Iterator[None]:
    """What is built inside is opened by a line with the text `section.NAME`; static/sections.js remembers how it was.

    The dot looks at the form's fields whose elements are inside.
    """
    title = escape(shell.texts(f"section.{name}"))
    with gr.Column(elem_classes="section folded"):
        block(
            f'<button type="button" class="fold" data-section="{name}" aria-expanded="false" '
            f'aria-controls="section-{name}">{icon("chevron-right")}<span>{title}</span></button>'
        )
        with gr.Column(elem_id=f"section-{name}", elem_classes="section-body closed"):
            yield
