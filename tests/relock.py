"""Write requirements.lock and requirements-test.lock from the environment this runs in: `python -m tests.relock`.

Run it in an environment in which the tests pass; it pins what is installed there, and nothing else. The locks have to
install on other systems and Pythons too, so dependencies are followed for each of TARGETS, not only for this machine.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# What only other systems or newer Pythons need, with the marker and the version to pin.
ELSEWHERE = {
    "audioop-lts": ("0.2.2", 'python_version >= "3.13"'),
    "colorama": ("0.4.6", 'sys_platform == "win32"'),
}
_SYSTEMS = (
    ("linux", "Linux", "posix", "x86_64"),
    ("linux", "Linux", "posix", "aarch64"),
    ("win32", "Windows", "nt", "AMD64"),
    ("darwin", "Darwin", "posix", "arm64"),
)
TARGETS: tuple[Mapping[str, str], ...] = tuple(
    {
        "sys_platform": platform,
        "platform_system": system,
        "os_name": name,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for (platform, system, name, machine), python in itertools.product(_SYSTEMS, ("3.11", "3.12", "3.13", "3.14"))
)
_HEAD = {
    "requirements.lock": "What Inferenz runs with, as tested. CUDA and ROCm packages are pinned by torch itself.",
    "requirements-test.lock": "What `python webui.py test` needs beside requirements.lock.",
}


def declared() -> tuple[list[str], list[str]]:
    """Direct dependencies and the test extra, as written in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"], project["optional-dependencies"]["test"]


def closure(requirements: Iterable[str]) -> set[str]:
    """Canonical names of these and of all that they need on any target. Absent ones end their branch."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            needs = metadata.requires(wanted.name) or []
        except metadata.PackageNotFoundError:
            continue
        waiting += [need for need in map(Requirement, needs) if _applies(need, wanted.extras)]
    return {name for name, _ in seen}


def _applies(need: Requirement, extras: set[str]) -> bool:
    if need.marker is None:
        return True
    return any(need.marker.evaluate({**target, "extra": extra}) for target in TARGETS for extra in ("", *extras))


def line(name: str) -> str:
    if name in ELSEWHERE:
        version, marker = ELSEWHERE[name]
        return f"{name}=={version} ; {marker}"
    return f"{name}=={metadata.version(name).partition('+')[0]}"


def render() -> dict[str, str]:
    """Text of each lock by its file name."""
    runtime, test = declared()
    needed = closure(runtime)
    names = {"requirements.lock": needed, "requirements-test.lock": closure(test) - needed}
    return {
        file: "\n".join([f"# {_HEAD[file]}", "# Made by: python -m tests.relock", *map(line, sorted(chosen)), ""])
        for file, chosen in names.items()
    }


if __name__ == "__main__":
    for file, text in render().items():
        (ROOT / file).write_text(text, encoding="utf-8", newline="\n")
        print(f"{file}: {sum('==' in row for row in text.splitlines())} pins")
