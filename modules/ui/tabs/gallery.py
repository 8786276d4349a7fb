"""The Gallery tab: every picture that was made. Its browser side is static/gallery.js."""

from __future__ import annotations

from modules.ui.markup import block
from modules.ui.shell import Shell, tab


@tab("gallery", label="tab.gallery", rank=60)
def gallery(_: Shell) -> None:
    block('<section id="inf-gallery" class="gallery"></section>')
