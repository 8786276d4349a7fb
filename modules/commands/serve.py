"""`python webui.py`: the page."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from importlib import import_module
from types import FrameType

from modules.app import build_app
from modules.commands.console import FINE, Console
from modules.commands.flags import add_device_flags, add_folder_flags, add_server_flags, app_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_server_flags(parser)
    add_folder_flags(parser)
    add_device_flags(parser)


def run(flags: argparse.Namespace, console: Console) -> int:
    """Serve until stopped. The flags are checked before anything is opened."""
    config = app_config(flags, serving=True)
    end_when_terminated()
    with build_app(config) as app:
        # Named late: Gradio takes its time, and the worker, which build_app has started, warms up meanwhile.
        import_module("modules.ui.server").serve(app, config, say=console.say)
    return FINE


def end_when_terminated() -> None:
    """SIGTERM, with which service managers and containers end a program, closes what is open, as Ctrl+C does.

    On Windows Ctrl+Break is that signal.
    """
    if threading.current_thread() is not threading.main_thread():  # no other may say what a signal does
        return
    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end)


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)  # as a shell reports a program that this signal ended
