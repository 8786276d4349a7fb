"""`python webui.py models`: the checkpoints there are, and what is known of them."""

from __future__ import annotations

import argparse

from modules.app import build_app
from modules.commands.console import FINE, Console
from modules.commands.flags import add_folder_flags, app_config
from modules.core.checkpoint import ModelInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_folder_flags(parser)


def run(flags: argparse.Namespace, console: Console) -> int:
    """List checkpoints, VAEs and text encoders; those that cannot be loaded with the reason."""
    with build_app(app_config(flags, serving=False)) as app:
        checkpoints, vaes = app.catalog.checkpoints(), app.catalog.vaes()
        encoders = app.catalog.text_encoders()
    if flags.json:
        groups = {"checkpoints": checkpoints, "vaes": vaes, "text_encoders": encoders}
        console.print_json({name: [_values(info) for info in infos] for name, infos in groups.items()})
        return FINE
    for heading, infos in (("Checkpoints", checkpoints), ("VAEs", vaes), ("Text encoders", encoders)):
        console.print(f"{heading}: {len(infos)}")
        for info in infos:
            about = info.problem if not info.supported else f"{info.label}, {info.dtype}, {info.size / 2**20:,.0f} MiB"
            console.print(f"  {info.title}: {about}")
    return FINE


def _values(info: ModelInfo) -> dict[str, object]:
    return {
        "name": info.name, "title": info.title, "path": info.path, "family": info.family, "label": info.label,
        "supported": info.supported, "problem": info.problem, "prediction": info.prediction, "dtype": info.dtype,
        "bytes": info.size, "hash": info.short_hash,
    }  # fmt: skip
