"""Importing Gradio in half the time.

While it is imported, Gradio writes a `.pyi` stub beside each of its component classes, for editors: it reads and parses
the sources of all of them, which takes as long as everything else in the import together, and writes into the
installed package. Nothing at run time reads those files. This is the one place where we change a library's behaviour:
the module that writes them is loaded as it is, and then its function that does so is replaced by one that does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

META = "gradio.component_meta"
WRITER = "create_or_modify_pyi"


class WithoutStubs(MetaPathFinder):
    """A finder that stands before the others while Gradio is imported. A context manager.

    Where Gradio has been imported already, or has no such function any more, nothing changes.
    """

    def __enter__(self) -> WithoutStubs:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == META else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Silent(spec.loader)
        return spec


class _Silent(Loader):
    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        if hasattr(module, WRITER):
            setattr(module, WRITER, _no_stub)


def _no_stub(*_: object) -> None:
    """In place of Gradio's writer of stubs."""
