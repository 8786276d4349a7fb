"""Pieces of HTML that more than one part of the page is made of."""

from __future__ import annotations

from typing import Any

import gradio as gr


def icon(name: str) -> str:
    """An icon of static/icons.svg, for markup that is written on the server."""
    return f'<svg class="icon" aria-hidden="true"><use href="#i-{name}"></use></svg>'


def block(markup: str, **options: Any) -> gr.HTML:
    """Markup on the page without Gradio's text styles, which would dress our buttons and lists."""
    return gr.HTML(markup, apply_default_css=False, padding=False, **options)
