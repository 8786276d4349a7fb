"""`python webui.py rebuild`: the gallery's index, read from the pictures anew."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from modules.app import build_app
from modules.commands.console import FINE, Console
from modules.commands.flags import add_folder_flags, app_config
from modules.core.errors import StorageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_folder_flags(parser)


def run(flags: argparse.Namespace, console: Console) -> int:
    """Read every picture again; favourites stay, files that are gone are forgotten. A server may be running.

    Raises StorageError where the index cannot be written.
    """
    with build_app(app_config(flags, serving=False)) as app:
        app.history.rebuild()
        app.history.wait()
        progress, count = app.history.progress(), app.history.count()
    if progress.error:
        raise StorageError(progress.error)
    if flags.json:
        console.print_json({"pictures": count, **asdict(progress)})
        return FINE
    console.print(f"{progress.total} files read, {count} pictures in the gallery.")
    for problem in progress.problems:
        console.say(problem)
    return FINE
