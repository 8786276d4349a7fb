"""How it works: the four parts of inference, shown on the picture that was made last. Drawn by static/how.js."""

from __future__ import annotations

from modules.ui.markup import block
from modules.ui.shell import Shell, tab


@tab("how", label="tab.how", rank=20)
def how(shell: Shell) -> None:
    block('<div id="inf-how"></div>')
