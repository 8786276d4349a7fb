"""Lists whose choices change while the page is open: the browser hands them over when a list is entered."""

from __future__ import annotations

import gradio as gr


def refreshed(field: gr.Dropdown, name: str) -> None:
    """Ask static/lists.js for the choices of `name` whenever the field gets the focus.

    Not Gradio's server: it refuses every value that was not there when the page was built, as newer checkpoints are.
    """
    field.focus(None, None, field, js=f"() => inferenz.choices('{name}')", show_progress="hidden", queue=False)
