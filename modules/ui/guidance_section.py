"""What is added to CFG: a section of the controls, drawn by static/guidance.js from what the registry has."""

from __future__ import annotations

import gradio as gr

from modules.ui.markup import block
from modules.ui.sections import closed_section
from modules.ui.shell import Shell


def guidance_section(shell: Shell, value: str) -> gr.Textbox:
    """The section, and the form's field: JSON of what differs from its default, kind -> option -> value."""
    with closed_section(shell, "guidance"):
        block('<div id="guidance-fields"></div>')
        return gr.Textbox(value, elem_id="guidance", elem_classes="bridge", label=shell.texts("guidance"))
