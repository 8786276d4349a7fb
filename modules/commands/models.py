"""`python webui.py models`: the checkpoints there are, and what is known of them."""

from __future__ import annotations

import argparse

from modules.app import build_app
from modules.commands.console import BAD_INPUT, FINE, Console
from modules.commands.flags import add_folder_flags, app_config
from modules.core.checkpoint import ModelInfo
from modules.core.errors import CheckpointError, InferenzError, RequestError
from modules.services.model_notes import Taken

TAKEN = ("family", "prediction", "variant")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--take", nargs="+", metavar=("NAME", "FIELD=VALUE"),
        help="take a checkpoint as something else from now on: family=, prediction=, variant=; without any of them, as "
        "what it is recognised as",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_folder_flags(parser)


def run(flags: argparse.Namespace, console: Console) -> int:
    """List checkpoints, VAEs and text encoders; those that cannot be loaded with the reason."""
    if flags.take:
        return _take(flags, console)
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
            about = info.problem if not info.supported else _about(info)
            console.print(f"  {info.title}: {about}")
    return FINE


def _about(info: ModelInfo) -> str:
    """What a checkpoint is, for people: family, what sets it apart, precision and size."""
    kind = info.variant if "text_encoder" not in info.family and info.family != "vae" else ""
    told = (info.label, kind, info.dtype, info.quantisation, f"{info.size / 2**20:,.0f} MiB")
    return ", ".join(part for part in told if part)


def _take(flags: argparse.Namespace, console: Console) -> int:
    name, *settings = flags.take
    try:
        taken = _taken(settings)
        with build_app(app_config(flags, serving=False)) as app:
            info = app.catalog.take(app.catalog.find(name), taken)
    except InferenzError as error:
        code = console.complain(error)
        return BAD_INPUT if isinstance(error, CheckpointError) else code
    if flags.json:
        console.print_json(_values(info))
        return FINE
    how = f", {info.variant}" if info.variant else ""
    console.print(f"{info.title}: {info.label}, {info.prediction}{how}" if info.supported else info.problem)
    return FINE


def _taken(settings: list[str]) -> Taken:
    """What `family=sdxl prediction=v` says. Raises RequestError for another field."""
    values: dict[str, str] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if name not in TAKEN or not equals:
            raise RequestError(
                "--take", f"{text[:60]!r} is not accepted", accepted=", ".join(f"{n}=..." for n in TAKEN)
            )
        values[name] = value
    return Taken(**values)


def _values(info: ModelInfo) -> dict[str, object]:
    return {
        "name": info.name, "title": info.title, "path": info.path, "family": info.family, "label": info.label,
        "supported": info.supported, "problem": info.problem, "prediction": info.prediction,
        "variant": info.variant, "dtype": info.dtype, "bytes": info.size, "hash": info.short_hash,
    }  # fmt: skip
