"""The Models tab: what lies in the model folders and what can be done with it. Its browser side is static/models.js."""

from __future__ import annotations

from modules.ui.markup import block
from modules.ui.shell import Shell, tab


@tab("models", label="tab.models", rank=70)
def models(_: Shell) -> None:
    block('<section id="inf-models" class="models"></section>')
