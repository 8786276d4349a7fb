"""A computer made of dictionaries: what the bootstrap would find and what it would do there, without doing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from modules.bootstrap.machine import Machine, Outcome

DONE = Outcome(status=0)


class Replaced(BaseException):
    """The process would be another program now; not an Exception, so that nothing can go on after it."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(*command)
        self.command = list(command)


@dataclass
class Computer:
    """`root` is the project's folder. `answer` stands for every program that is run; it sees the command.

    The environment behaves as a real one would: `-m venv` makes a file where its Python belongs, installing torch
    makes the environment have it, and `environment_python` is what that Python says its version is.
    """

    root: Path
    platform: str = "linux"
    architecture: str = "x86_64"
    version: tuple[int, int] = (3, 11)
    inside: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    absent_modules: frozenset[str] = frozenset()
    packages: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    cuda: tuple[int, int] | None = None
    amd: bool = False
    pip_settings: str | None = ""
    environment_python: str = "3.11"
    torch: str = ""
    answer: Callable[[Sequence[str]], Outcome] = lambda _: DONE
    status: int = 0
    ran: list[list[str]] = field(default_factory=list)
    followed: list[list[str]] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def python(self) -> Path:
        return self.root / ".venv" / ("Scripts/python.exe" if self.platform == "win32" else "bin/python")

    def machine(self) -> Machine:
        system = self.root.parent / "usr"
        return Machine(
            platform=self.platform,
            architecture=self.architecture,
            version=self.version,
            executable=self.python if self.inside else system / "python3",
            base_executable=system / "python3",
            prefix=self.root / ".venv" if self.inside else system,
            environ=self.environ,
            has_module=lambda name: name not in self.absent_modules,
            installed=self.packages.get,
            which=self.programs.get,
            capture=self._capture,
            run=self._run,
            fetch=self._fetch,
            driver_cuda=lambda: self.cuda,
            has_amd=lambda: self.amd,
            replace=self._replace,
            follow=self._follow,
            say=self.said.append,
        )

    def installs(self) -> list[str]:
        """What pip and uv were asked to install, from the word `install` on."""
        return [" ".join(command[command.index("install") + 1 :]) for command in self.ran if "install" in command]

    def _capture(self, command: Sequence[str]) -> str | None:
        if command[0] != str(self.python):
            return self.outputs.get(" ".join(command))
        if "config" in command:
            return self.pip_settings
        if "metadata" in command[-1]:
            return self.torch
        return self.environment_python

    def _run(self, command: Sequence[str]) -> Outcome:
        self.ran.append(list(command))
        outcome = self.answer(command)
        if outcome.status == 0 and "venv" in command:
            self.python.parent.mkdir(parents=True, exist_ok=True)
            self.python.touch()
            self.environment_python = "{}.{}".format(*self.version)
        if outcome.status == 0 and command[-1].startswith("torch=="):
            self.torch = command[-1].removeprefix("torch==")
        return outcome

    def _fetch(self, address: str) -> str | None:
        self.fetched.append(address)
        return self.pages.get(address)

    def _replace(self, command: Sequence[str]) -> NoReturn:
        raise Replaced(command)

    def _follow(self, command: Sequence[str], folder: Path) -> int:
        del folder
        self.followed.append(list(command))
        return self.status
