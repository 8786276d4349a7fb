"""The PNG Info tab: what any picture says of how it was made. Its browser side is static/pnginfo.js."""

from __future__ import annotations

from modules.ui.markup import block
from modules.ui.shell import Shell, tab


@tab("pnginfo", label="tab.pnginfo", rank=65)
def pnginfo(_: Shell) -> None:
    block('<section id="inf-pnginfo" class="pnginfo"></section>')
