"""AUTOMATIC1111's arrow at the prompt: fills the form from a parameters text. Its browser side is static/paste.js."""

from __future__ import annotations

from html import escape

from modules.ui.markup import icon
from modules.ui.texts import Texts


def paste_button(texts: Texts) -> str:
    """The arrow, for the line of the prompt's label."""
    title = escape(texts("paste.title"))
    return (
        f'<button type="button" id="paste" class="paste" title="{title}" aria-label="{title}">'
        f"{icon('arrow-down-left')}</button>"
    )
