"""One network found in a file: which it is, its configuration, and where each of its parameters lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modules.core.checkpoint import Names, Source
from modules.families.layouts.shapes import Config

Inner = Mapping[str, str]  # a tensor's name without the prefix of its component -> its name in the file


@dataclass(frozen=True, kw_only=True)
class Network:
    """kind: of a denoiser "unet", "flux", "sd3" ...; of text encoders and VAEs the kinds that `Part` lists.

    config: keyword arguments of its class. names: parameter -> the file's tensor. missing: what the configuration
    implies and the file does not have, as the file would name it; unknown: the file's names that belong to nothing.
    """

    kind: str
    config: Config
    names: Names
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def through(table: Names, inner: Inner) -> Names:
    """A table whose names are those without prefix, with the file's own; what is not there is left out."""
    found: dict[str, str | Source] = {}
    for name, old in table.items():
        if isinstance(old, Source):
            if old.name in inner:
                found[name] = Source(inner[old.name], rows=old.rows, change=old.change)
        elif old in inner:
            found[name] = inner[old]
    return found


def absent(table: Names, inner: Inner) -> tuple[str, ...]:
    """The names, without prefix, that a table takes tensors from and that are not there; each once, in order."""
    wanted = (old.name if isinstance(old, Source) else old for old in table.values())
    return tuple(dict.fromkeys(name for name in wanted if name not in inner))


def excess(table: Names, inner: Inner) -> tuple[str, ...]:
    """The file's names of tensors that a table takes nothing from."""
    used = {old.name if isinstance(old, Source) else old for old in table.values()}
    return tuple(full for name, full in inner.items() if name not in used)


def identity(inner: Inner) -> dict[str, str | Source]:
    """Each name for itself."""
    return dict(inner)
