from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.core.errors import SetupError
from modules.core.plugin import collect
from modules.core.sampling import Schedule

KIND = """
from modules.core.sampling import schedule

@schedule("{name}", label="{label}", rank={rank}, aliases=("{name} alias",))
def anything(steps, levels):
    return [0.0]
"""


class Ground:
    """A folder on the import path, in which a test builds packages and installed distributions."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def module(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def kind(self, path: str, name: str, *, rank: int = 5) -> None:
        self.module(path, KIND.format(name=name, label=name.title(), rank=rank))

    def installed(self, distribution: str, *points: str) -> None:
        folder = f"{distribution}-1.0.dist-info"
        self.module(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        self.module(f"{folder}/entry_points.txt", "[ground.kinds]\n" + "\n".join(points) + "\n")


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    before = set(sys.modules)
    sys.path.insert(0, str(tmp_path))
    made = Ground(tmp_path)
    made.module("ground/__init__.py", "")
    yield made
    sys.path.remove(str(tmp_path))
    for name in set(sys.modules) - before:
        if name.split(".")[0] in {"ground", "guest"}:
            del sys.modules[name]


def test_finds_every_module_in_order_of_rank(ground: Ground) -> None:
    ground.kind("ground/one.py", "late", rank=9)
    ground.kind("ground/two.py", "early", rank=1)
    ground.kind("ground/_private.py", "hidden")
    ground.module("ground/empty.py", "from ground.one import anything as borrowed\n")
    registry = collect("ground", Schedule, group="ground.kinds")
    assert list(registry) == ["early", "late"]
    assert len(registry) == 2
    assert registry["late"].label == "Late"
    with pytest.raises(KeyError):
        registry["hidden"]
    with pytest.raises(TypeError):
        registry["more"] = registry["late"]  # type: ignore[index]


def test_finds_by_name_label_or_alias(ground: Ground) -> None:
    ground.kind("ground/one.py", "two_words")
    registry = collect("ground", Schedule, group="ground.kinds")
    for text in ("two_words", "Two Words", " TWO  words ", "two_words alias"):
        assert registry.find(text) is registry["two_words"]
    for text in ("", "two", "alias"):
        assert registry.find(text) is None


def test_entry_points_come_in_by_the_same_door(ground: Ground) -> None:
    ground.kind("ground/one.py", "builtin")
    ground.kind("guest/__init__.py", "foreign")
    ground.installed("guest", "module = guest", "object = guest:anything")
    assert list(collect("ground", Schedule, group="ground.kinds")) == ["builtin", "foreign"]


def test_two_of_one_name_are_refused(ground: Ground) -> None:
    ground.kind("ground/one.py", "twin")
    ground.kind("guest/__init__.py", "twin")
    ground.installed("guest", "module = guest")
    with pytest.raises(SetupError, match=r"Two plug-ins of ground\.kinds are named twin"):
        collect("ground", Schedule, group="ground.kinds")


@pytest.mark.parametrize(
    ("text", "reason"), [("import not_there_at_all\n", "not_there_at_all"), ("1 / 0\n", "division"), ("(\n", "closed")]
)
def test_a_broken_plugin_is_named(ground: Ground, text: str, reason: str) -> None:
    ground.module("guest/__init__.py", text)
    ground.installed("guest", "broken = guest")
    with pytest.raises(SetupError, match=f"plug-in broken \\(guest\\) cannot be imported.*{reason}"):
        collect("ground", Schedule, group="ground.kinds")


def test_a_missing_attribute_is_named(ground: Ground) -> None:
    ground.kind("guest/__init__.py", "foreign")
    ground.installed("guest", "gone = guest:not_here")
    with pytest.raises(SetupError, match="gone"):
        collect("ground", Schedule, group="ground.kinds")
