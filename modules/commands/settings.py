"""`python webui.py settings`: read and change what the Settings tab shows."""

from __future__ import annotations

import argparse

from modules.commands.console import FINE, Console
from modules.commands.flags import add_folder_flags, app_config
from modules.core.errors import RequestError
from modules.services.settings import Settings
from modules.services.state import StateDatabase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="show this setting only")
    parser.add_argument("value", nargs="?", help="change it to this")
    parser.add_argument("--reset", action="store_true", help="go back to its default, or to every default")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_folder_flags(parser)


def run(flags: argparse.Namespace, console: Console) -> int:
    """Show, set or reset. A running server reads changed settings when it is started again."""
    if flags.reset and flags.value is not None:
        raise RequestError("--reset", "leaves no room for a value", accepted="a value or --reset")
    state = StateDatabase(app_config(flags, serving=False).state_path)
    try:
        settings = Settings(state)
        if flags.value is not None:
            settings.set(flags.name, flags.value)
        elif flags.reset and flags.name:
            settings.reset(flags.name)
        elif flags.reset:
            settings.reset_all()
        shown = {flags.name: settings.get(flags.name)} if flags.name else settings.all()
    finally:
        state.close()
    if flags.json:
        console.print_json(shown)
    else:
        for name, value in shown.items():
            console.print(f"{name} = {str(value).lower() if isinstance(value, bool) else value}")
    return FINE
