"""The reader of requirements, against `packaging`'s; the locks, against pyproject.toml and what is installed."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement as Reference
from packaging.utils import canonicalize_name

from modules.bootstrap.requirements import Lock, checks_lock, declared, parse_requirement, release, runtime_lock
from tests.relock import ELSEWHERE, closure
from tests.relock import declared as declared_texts

ROOT = Path(__file__).resolve().parent.parent.parent
_PIN = re.compile(r"([a-z0-9][a-z0-9-]*)==([0-9][0-9.]*)( ; \w+ (?:==|>=) \"[\w.]+\")?")


def pins(lock: Lock) -> dict[str, str]:
    lines = [line for line in lock.path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    matches = [_PIN.fullmatch(line) for line in lines]
    assert all(matches), "a pin is name==version, with a marker at most: no local versions, paths or addresses"
    return {match[1]: match[2] for match in matches if match}


@pytest.mark.parametrize("text", ["a", "a>=1", "a>=6.10,<7", "a-b.c >= 2.0 , < 3"])
@pytest.mark.parametrize(
    "version", ["0.9", "1", "1.0.0", "2", "2.13.0+cpu", "6.9", "6.10", "6.10.0", "6.31.0", "7", "7.0"]
)
def test_bounds_mean_what_packaging_says(text: str, version: str) -> None:
    expected = Reference(text).specifier.contains(version)
    assert parse_requirement(text).accepts(version) is expected


@pytest.mark.parametrize("text", ["a==1", "a~=1.0", "a!=2", "a[b]>=1", 'a; python_version>"3"', ">=1", "a>=x"])
def test_other_forms_are_refused_rather_than_guessed(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither|form"):
        parse_requirement(text)


def test_releases_compare_as_numbers() -> None:
    assert release("2.13.0+cpu") == release("2.13") > release("2.9.1")


def test_every_dependency_of_the_project_can_be_read() -> None:
    names = [requirement.name for requirement in declared(ROOT, test=True)]
    assert {"torch", "gradio", "pytest"} <= set(names)


def test_the_locks_pin_all_that_is_needed_and_nothing_twice() -> None:
    runtime, test = declared_texts()
    locked, extra = pins(runtime_lock(ROOT)), pins(checks_lock(ROOT))
    assert not locked.keys() & extra.keys()
    assert closure(runtime) <= locked.keys()
    assert closure([*runtime, *test]) <= locked.keys() | extra.keys()


def test_the_pins_are_within_the_declared_bounds() -> None:
    every = pins(runtime_lock(ROOT)) | pins(checks_lock(ROOT))
    for requirement in declared(ROOT, test=True):
        assert requirement.accepts(every[canonicalize_name(requirement.name)]), requirement.name


def test_what_other_systems_need_is_marked() -> None:
    text = runtime_lock(ROOT).path.read_text(encoding="utf-8")
    for name, (version, marker) in ELSEWHERE.items():
        assert f"{name}=={version} ; {marker}\n" in text


def test_torch_is_pinned_without_a_build() -> None:
    assert runtime_lock(ROOT).pin("torch") == "2.13.0"
    assert metadata.version("torch").startswith("2.")
    with pytest.raises(KeyError, match="does not pin nothing-like-it"):
        runtime_lock(ROOT).pin("nothing-like-it")
