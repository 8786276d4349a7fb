"""The decisions of `python webui.py`, in order.

1. This interpreter is the project's own environment and its stamps are right, or it has everything the project asks
   for: go on in it.
2. The project's own environment has the right stamps: continue there.
3. Bring that environment up to date, stamp it, continue there.

A stamp is written after the last package and removed before the first, so an install that was cut off has none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from modules.bootstrap.installer import Environment, Installer, unwritable
from modules.bootstrap.machine import Machine, this_machine
from modules.bootstrap.requirements import Lock, checks_lock, declared, missing, runtime_lock
from modules.core.errors import SetupError
from modules.core.held import patiently

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What one step of filling an environment was done from.

    content: the lock's digest, or torch's version. python: as in "3.11". source: torch's index, "" for the default.
    """

    content: str
    python: str
    source: str = ""

    @classmethod
    def read(cls, path: Path) -> Stamp | None:
        """None if there is none or it is not one of ours (cut off, or of another version of Inferenz)."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        patiently(lambda: os.replace(draft, path))


@dataclass(frozen=True, kw_only=True)
class Project:
    """The checkout at `root` and its environment on `machine`; `test` asks for the test extra as well."""

    root: Path
    machine: Machine
    test: bool

    @property
    def environment(self) -> Environment:
        return Environment(folder=self.root / ".venv", windows=self.machine.platform == "win32")

    @property
    def inside(self) -> bool:
        return self.machine.prefix.resolve() == self.environment.folder.resolve()

    def stamp_file(self, extra: str) -> Path:
        return self.environment.folder / f"inferenz-{extra}.stamp"

    def runtime_ready(self, lock: Lock) -> bool:
        return self._stamped("runtime", lock) and not self.other_torch_wanted

    def test_ready(self, lock: Lock) -> bool:
        return self._stamped("test", lock)

    @property
    def other_torch_wanted(self) -> bool:
        """TORCH_INDEX_URL names another index than the one that the installed torch came from."""
        wanted = self.machine.environ.get("TORCH_INDEX_URL", "").strip()
        stamp = Stamp.read(self.stamp_file("torch"))
        return bool(wanted) and (stamp is None or stamp.source != wanted)

    def _stamped(self, extra: str, lock: Lock) -> bool:
        stamp = Stamp.read(self.stamp_file(extra))
        if stamp is None or stamp.content != lock.digest or not self.environment.python.exists():
            return False
        return not self.inside or stamp.python == self._python

    @property
    def _python(self) -> str:
        return "{}.{}".format(*self.machine.version)

    def update(self, runtime: Lock, test: Lock) -> None:
        """Bring the environment to the locks; SetupError if that cannot be done."""
        installer = Installer(machine=self.machine, environment=self.environment)
        installer.make()
        try:
            if not self.runtime_ready(runtime):
                self._unstamp("runtime")
                there = installer.has_torch(runtime)
                if self.other_torch_wanted or not there:
                    self._unstamp("torch")
                    index = installer.install_torch(runtime, replace=there)
                    self._stamp("torch", runtime.pin("torch"), source=index)
                installer.install_runtime(runtime)
                self._stamp("runtime", runtime.digest)
            if self.test and not self.test_ready(test):
                self._unstamp("test")
                installer.install_test(test, runtime)
                self._stamp("test", test.digest)
        except OSError as error:
            raise unwritable(self.environment.folder, error) from error

    def _unstamp(self, extra: str) -> None:
        self.stamp_file(extra).unlink(missing_ok=True)

    def _stamp(self, extra: str, content: str, *, source: str = "") -> None:
        Stamp(content=content, python=self._python, source=source).write(self.stamp_file(extra))


def bootstrap(arguments: Sequence[str], *, root: Path = ROOT, machine: Machine | None = None) -> int | None:
    """Exit status if everything has been done or has failed, None if the caller goes on in this interpreter."""
    machine = machine or this_machine()
    project = Project(root=root, machine=machine, test=list(arguments[:1]) == ["test"])
    try:
        status = _enter(project, arguments)
    except SetupError as error:
        print(f"Inferenz: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Inferenz: the set-up was stopped; the same command goes on with it.", file=sys.stderr)
        return 130
    if status is None and project.test:
        from modules.bootstrap.checks import run_checks

        return run_checks(machine, root, arguments[1:])
    return status


def _enter(project: Project, arguments: Sequence[str]) -> int | None:
    machine = project.machine
    runtime, test = runtime_lock(project.root), checks_lock(project.root)
    ready = project.runtime_ready(runtime) and (not project.test or project.test_ready(test))
    if project.inside and ready:
        return None
    if not project.inside and not missing(declared(project.root, test=project.test), machine.installed):
        return None
    if not ready:
        machine.say(f"Inferenz needs some packages; they go to {project.environment.folder} and nowhere else.")
        project.update(runtime, test)
        machine.say("The packages are there.")
    command = [str(project.environment.python), str(project.root / "webui.py"), *arguments]
    if machine.platform != "win32":
        machine.replace(command)
    return machine.follow(command, Path.cwd())  # exec on Windows returns to the shell with the program still running
