"""`python webui.py strip PICTURE... -o PLACE`: copies that say nothing of how they were made."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

from modules.commands.console import FINE, Console
from modules.core.errors import RequestError, StorageError
from modules.core.held import patiently
from modules.imaging.strip import shared_name, stripped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a PNG, JPEG, WebP or AVIF file")
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="the copy's name, or a folder (default: beside it, as NAME-shared)"
    )
    parser.add_argument("--force", action="store_true", help="replace a copy that exists")


def run(flags: argparse.Namespace, console: Console) -> int:
    """Write the copies; prints the path of each. The pictures themselves stay as they are."""
    for source, target in _targets(flags.pictures, flags.output).items():
        if target.exists() and (not flags.force or target.samefile(source)):
            raise RequestError("--output", f"{target} exists", accepted="another name, or --force for an older copy")
        try:
            data = source.read_bytes()
        except OSError as error:
            raise RequestError("picture", f"{source}: {error.strerror or error}", accepted="a picture file") from error
        _write(target, stripped(data))
        console.print(str(target))
    return FINE


def _targets(sources: list[Path], output: str | None) -> dict[Path, Path]:
    """Source -> copy. Raises RequestError where two would have one name."""
    if output is None:
        targets = {source: source.with_name(shared_name(source.name)) for source in sources}
    elif Path(output).is_dir() or output.endswith(("/", os.sep)):
        targets = {source: Path(output) / shared_name(source.name) for source in sources}
    elif len(sources) == 1:
        targets = {sources[0]: Path(output)}
    else:
        raise RequestError("--output", f"{output} is one name for several pictures", accepted="a folder")
    if len(set(targets.values())) < len(targets):
        raise RequestError("picture", "two copies would have the same name", accepted="pictures of different names")
    return targets


def _write(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            patiently(lambda: temporary.replace(target))
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{target} could not be written: {error.strerror or error}.") from error
