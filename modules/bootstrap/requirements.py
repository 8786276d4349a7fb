"""What has to be installed: ranges from pyproject.toml for anyone's environment, pins from the locks for ours."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*([^;\[]*)")
_BOUND = re.compile(r"(>=|<)\s*([0-9][0-9.]*)")
_RELEASE = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A distribution and its bounds: (operator, release) pairs, operators ">=" and "<" only."""

    name: str
    bounds: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def accepts(self, version: str) -> bool:
        """Compare release numbers only: 2.13.0+cpu counts as 2.13.0, and so does a pre-release of it."""
        have = release(version)
        return all(have >= limit if operator == ">=" else have < limit for operator, limit in self.bounds)


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version without trailing zeros, so that 6 and 6.0 compare equal."""
    match = _RELEASE.match(version)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def parse_requirement(text: str) -> Requirement:
    """Read `name>=1.2,<3`. Anything else in a bound (==, ~=, !=, extras) raises ValueError: the project uses none."""
    match = _REQUIREMENT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not of the form name>=1.2,<3")
    bounds = []
    for part in filter(None, (piece.strip() for piece in match.group(2).split(","))):
        bound = _BOUND.fullmatch(part)
        if bound is None:
            raise ValueError(f"{part!r} in {text!r} is neither >= nor <")
        bounds.append((bound.group(1), release(bound.group(2))))
    return Requirement(name=match.group(1), bounds=tuple(bounds))


def declared(root: Path, *, test: bool) -> tuple[Requirement, ...]:
    """Direct dependencies in pyproject.toml, with the test extra if asked."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts: list[str] = list(project["dependencies"])
    if test:
        texts += project["optional-dependencies"]["test"]
    return tuple(map(parse_requirement, texts))


def missing(requirements: Iterable[Requirement], installed: Callable[[str], str | None]) -> tuple[str, ...]:
    """Names that are absent or outside their bounds, in the order asked."""
    absent = []
    for requirement in requirements:
        version = installed(requirement.name)
        if version is None or not requirement.accepts(version):
            absent.append(requirement.name)
    return tuple(absent)


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One file of pins. `digest` is the SHA-256 of its text, the same for every kind of line end."""

    path: Path
    digest: str

    @classmethod
    def read(cls, path: Path) -> Lock:
        return cls(path=path, digest=hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest())

    def pin(self, name: str) -> str:
        """The version that `name` is pinned to; KeyError if the lock does not name it."""
        for line in self.path.read_text(encoding="utf-8").splitlines():
            found, _, version = line.split(";")[0].strip().partition("==")
            if found == name:
                return version
        raise KeyError(f"{self.path.name} does not pin {name}")


def runtime_lock(root: Path) -> Lock:
    return Lock.read(root / "requirements.lock")


def checks_lock(root: Path) -> Lock:
    """Pins of the test extra that the runtime lock does not have already."""
    return Lock.read(root / "requirements-test.lock")
