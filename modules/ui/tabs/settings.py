"""The Settings tab: drawn in the browser from the settings' own descriptions, so that a new one shows up unasked."""

from __future__ import annotations

from modules.ui.markup import block
from modules.ui.shell import Shell, tab


@tab("settings", label="tab.settings", rank=90)
def settings(_: Shell) -> None:
    block('<section id="inf-settings" class="settings"></section>')
