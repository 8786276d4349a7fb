"""Everything that comes in many kinds is one file in one folder, found through one door.

A decorator turns a function into a frozen description (a `Kind`: it has a `name`); `collect` imports every module of
the built-in folder and every entry point of the plug-in group, takes the descriptions it finds in them, and returns
them as a frozen mapping. A plug-in package declares, for example:

    [project.entry-points."inferenz.samplers"]
    mine = "my_package.my_sampler"
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from modules.core.errors import SetupError


class Kind(Protocol):
    """What a registry holds: anything with a registry name (lower case, `[a-z0-9_]+`)."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Kind)


class Registry(Mapping[str, T], Generic[T]):
    """Frozen name -> description, in the order of `order` (an attribute of the description, if any), then by name."""

    def __init__(self, found: Mapping[str, T]) -> None:
        ordered = sorted(found.values(), key=lambda kind: (getattr(kind, "rank", 1000), kind.name))
        self._found: Mapping[str, T] = MappingProxyType({kind.name: kind for kind in ordered})

    def __getitem__(self, name: str) -> T:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def find(self, text: str) -> T | None:
        """The kind whose name, label or alias is `text` (case, blanks and underscores set aside), or None."""
        wanted = _plain(text)
        for kind in self._found.values():
            names = (kind.name, getattr(kind, "label", ""), *getattr(kind, "aliases", ()))
            if wanted in {_plain(name) for name in names if name}:
                return kind
        return None


def collect(package: str, kind: type[T], *, group: str) -> Registry[T]:
    """Import the modules of `package` and the entry points of `group`; gather their module-level `kind` instances.

    Raises SetupError when two modules claim one name or a plug-in cannot be imported.
    """
    folder = import_module(package)
    builtins = [
        EntryPoint(name=module.name, value=f"{package}.{module.name}", group=group)
        for module in pkgutil.iter_modules(folder.__path__)
        if not module.name.startswith("_")
    ]
    found: dict[str, T] = {}
    for point in (*builtins, *entry_points(group=group)):
        try:
            module = point.load()
        except Exception as error:
            raise SetupError(f"The plug-in {point.name} ({point.value}) cannot be imported: {error}") from error
        for value in (module, *vars(module).values()) if hasattr(module, "__dict__") else (module,):
            if isinstance(value, kind) and found.setdefault(value.name, value) is not value:
                raise SetupError(f"Two plug-ins of {group} are named {value.name}.")
    return Registry(found)


def _plain(text: str) -> str:
    return "".join(text.lower().replace("_", " ").split())
