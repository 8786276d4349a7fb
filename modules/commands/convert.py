"""`python webui.py convert OLD.ckpt`: a pickled checkpoint becomes a safetensors file, once and safely."""

from __future__ import annotations

import argparse
import secrets
from importlib import import_module
from pathlib import Path

from modules.commands.console import FINE, Console
from modules.core.checkpoint import Header
from modules.core.errors import RequestError, StorageError
from modules.core.family import Family, identify
from modules.core.held import patiently
from modules.core.plugin import collect

CONVERTER = "modules.backbones.convert"  # of the torch half, which the page half names but never imports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="a .ckpt, .pt, .pth or .bin file")
    parser.add_argument("target", type=Path, nargs="?", help="the new file (default: beside it, as .safetensors)")
    parser.add_argument("--force", action="store_true", help="replace a target that exists")


def run(flags: argparse.Namespace, console: Console) -> int:
    """Convert; prints the new file's path."""
    source: Path = flags.source
    target: Path = flags.target or source.with_suffix(".safetensors")
    if not source.is_file():
        raise RequestError("source", f"{source} is not a file", accepted="a .ckpt, .pt, .pth or .bin file")
    if target.suffix.lower() != ".safetensors":
        raise RequestError("target", f"{target.name} is not accepted", accepted="a name that ends in .safetensors")
    if target.exists() and not flags.force:
        raise RequestError("target", f"{target} exists", accepted="another name, or --force")
    _convert(source, target)
    console.print(str(target))
    return FINE


def _convert(source: Path, target: Path) -> None:
    """The converter never replaces a file; one that is to be replaced stays until the new one is whole."""
    converter = import_module(CONVERTER)
    if not target.exists():
        converter.convert_pickle(source, target, known=known)
        return
    draft = target.with_name(f".{secrets.token_hex(6)}.safetensors")  # hidden: the catalog leaves it out
    try:
        converter.convert_pickle(source, draft, known=known)
        patiently(lambda: draft.replace(target))
    except OSError as error:
        raise StorageError(f"{target} could not be replaced: {error.strerror or error}.") from error
    finally:
        draft.unlink(missing_ok=True)


def known(header: Header) -> bool:
    """Whether any family, loadable here or not, recognises the file."""
    families = collect("modules.families", Family, group="inferenz.families")
    return identify(header, families).family != "unknown"
