"""The browser side's modules: what they import is there, and no module comes round to itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

from modules.ui.assets import STATIC

# `import { a, b as c } from "./x.js";` and `import * as x from "./x.js";`: the forms that are used here
IMPORT = re.compile(r'^import\s+(?:\{([^}]*)\}|\*\s+as\s+(\w+))\s+from\s+"\./([\w.-]+)";', re.MULTILINE)
STATEMENT = re.compile(r"^import\b", re.MULTILINE)
EXPORT = re.compile(r"^export\s+(?:async\s+)?(?:function\*?|const|let|class)\s+(\w+)", re.MULTILINE)
COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)


class Module:
    """What one file imports and exports."""

    def __init__(self, code: str) -> None:
        code = COMMENT.sub("", code)
        self.exports = set(EXPORT.findall(code))
        self.files: set[str] = set()
        self.names: set[tuple[str, str]] = set()  # (file, what it should export)
        self.unread = len(STATEMENT.findall(code)) - len(IMPORT.findall(code))
        self.unused: set[str] = set()
        rest = IMPORT.sub("", code)
        for listed, whole, file in IMPORT.findall(code):
            self.files.add(file)
            for name, alias in _listed(listed):
                self.names.add((file, name))
                if not re.search(rf"\b{alias}\b", rest):
                    self.unused.add(alias)
            if whole:
                self.names |= {(file, name) for name in re.findall(rf"(?<![\w.\"'`/-]){whole}\.(\w+)", rest)}


def _listed(text: str) -> Iterator[tuple[str, str]]:
    for each in filter(None, map(str.strip, text.split(","))):
        name, _, alias = each.partition(" as ")
        yield name, alias or name


def read(folder: Path) -> dict[str, Module]:
    return {path.name: Module(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.js"))}


def cycle(modules: Mapping[str, Module]) -> str:
    """One chain of imports that ends where it began, as "a.js -> b.js -> a.js"; "" for none."""
    try:
        TopologicalSorter({file: module.files for file, module in modules.items()}).prepare()
    except CycleError as error:
        chain = error.args[1][::-1]  # graphlib names who is imported before who imports
        assert all(after in modules[before].files for before, after in pairwise(chain))
        return " -> ".join(chain)
    return ""


def missing(modules: Mapping[str, Module]) -> list[str]:
    """Imports of a file that is not there, or of a name that it does not export."""
    files = [f"{file}: no {other}" for file, module in modules.items() for other in module.files - modules.keys()]
    names = [
        f"{file}: {other} exports no {name}"
        for file, module in modules.items()
        for other, name in module.names
        if other in modules and name not in modules[other].exports
    ]
    return sorted(files + names)


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return read(STATIC)


def test_every_import_is_of_a_form_that_is_read_here(modules: Mapping[str, Module]) -> None:
    assert "main.js" in modules
    assert not [file for file, module in modules.items() if module.unread]


def test_no_module_comes_round_to_itself(modules: Mapping[str, Module]) -> None:
    assert not cycle(modules)


def test_what_is_imported_is_there(modules: Mapping[str, Module]) -> None:
    assert not missing(modules)


def test_what_is_imported_is_used(modules: Mapping[str, Module]) -> None:
    assert not {file: module.unused for file, module in modules.items() if module.unused}


def test_main_starts_every_module_that_can_be_started(modules: Mapping[str, Module]) -> None:
    starters = {file for file, module in modules.items() if "start" in module.exports}
    assert starters <= modules["main.js"].files | {"gallery-store.js"}  # which the gallery starts


def test_a_cycle_is_named() -> None:
    code = {
        "a.js": 'import { b } from "./b.js";\nexport const a = () => b();',
        "b.js": 'import {\n  c as d,\n} from "./c.js";\nexport function b() { d(); }',
        "c.js": 'import * as first from "./a.js";\nexport async function c() { first.a(); }',
    }
    found = cycle({file: Module(text) for file, text in code.items()})
    assert found in {"a.js -> b.js -> c.js -> a.js", "b.js -> c.js -> a.js -> b.js", "c.js -> a.js -> b.js -> c.js"}
    assert not cycle({file: Module(text) for file, text in code.items() if file != "c.js"} | {"c.js": Module("")})


def test_what_is_missing_is_named() -> None:
    imports = ('{ here, gone } from "./b.js"', '* as b from "./b.js"', '{ x } from "./c.js"')
    code = "".join(f"import {each};\n" for each in imports) + "b.lost(here, gone, x);"
    found = missing({"a.js": Module(code), "b.js": Module("export const here = 1;")})
    assert found == ["a.js: b.js exports no gone", "a.js: b.js exports no lost", "a.js: no c.js"]
