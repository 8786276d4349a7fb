"""The project's own environment: making it, filling it from the locks, and saying in a sentence why that failed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modules.bootstrap.machine import Machine, Outcome
from modules.bootstrap.requirements import Lock
from modules.bootstrap.torch_build import DEFAULT_BUILD, choose_build
from modules.core.errors import SetupError

_UNREACHABLE = (
    "NewConnectionError",
    "NameResolutionError",
    "name resolution",
    "getaddrinfo failed",
    "Network is unreachable",
    "No route to host",
    "ConnectTimeout",
    "ReadTimeout",
    "ProxyError",
    "SSLError",
    "dns error",
    "error sending request",
)
_FULL = ("No space left on device", "not enough space on the disk", "os error 28", "[Errno 28]")
_REFUSED = ("Permission denied", "Read-only file system", "Access is denied", "[WinError 5]", "os error 5)")
_HELD = ("[WinError 32]", "os error 32)")  # Windows tells the rest in the system's language
_TOO_LONG = ("Long Path support", "[WinError 206]", "os error 206)")
_NO_BUILD = ("No matching distribution found", "No solution found")
_ELSEWHERE = "Move Inferenz to a folder that you may write, or run it with a Python that has its packages."
_AGAIN = "run the command again; what is installed already is kept."
# Signs in what a command wrote, what they mean, and the cure; the first that fits
_CAUSES: tuple[tuple[Sequence[str], str, str], ...] = (
    (_FULL, "The disk is full.", f"Free some gigabytes and {_AGAIN}"),
    (
        _UNREACHABLE, "The package index cannot be reached.",
        f"Connect to the network, or set the proxy or index that pip needs, and {_AGAIN}",
    ),
    (
        _TOO_LONG, "A file's path would be longer than Windows takes.",
        f"Move Inferenz to a folder with a short path, such as C:\\inferenz, and {_AGAIN}",
    ),
    (_HELD, "Another program holds a file there.", f"Close every other window of Inferenz and {_AGAIN}"),
    (_REFUSED, "A folder may not be written.", _ELSEWHERE),
)  # fmt: skip
_VERSION_OF_TORCH = """
from importlib import metadata
found = metadata.distribution("torch")
print(found.version if found.read_text("RECORD") else "")
"""
_PYTHON_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
# Settings that send pip elsewhere than to the public index; uv reads none of them.
_PIP_ONLY = ("index-url", "find-links", "no-index")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The folder `.venv` of the project."""

    folder: Path
    windows: bool

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if self.windows else "bin/python")


@dataclass(frozen=True, kw_only=True)
class Installer:
    """Fills `environment` on `machine`. Every method raises SetupError with one sentence that names the cure."""

    machine: Machine
    environment: Environment

    def make(self) -> None:
        """Leave a working environment of this interpreter's version: the one that is there, or a new one."""
        machine, environment = self.machine, self.environment
        if environment.python.exists() and self._works():
            return
        if machine.prefix.resolve() == environment.folder.resolve() and environment.windows:
            raise SetupError(
                f"The environment in {environment.folder} was made by another Python and runs at this moment.",
                hint="Delete that folder and run the command again.",
            )
        command = self._maker()
        machine.say(f"Making a Python environment in {environment.folder}")
        try:
            if environment.folder.exists():
                shutil.rmtree(environment.folder)
            environment.folder.mkdir()
        except OSError as error:
            raise unwritable(environment.folder, error) from error
        outcome = machine.run(command)
        if outcome.status != 0:
            raise explained(outcome, "The Python environment could not be made.")

    def _maker(self) -> list[str]:
        """The command that makes the environment; uv needs no ensurepip, which Debian ships apart from Python."""
        machine, folder = self.machine, str(self.environment.folder)
        base = str(machine.base_executable)
        uv = machine.which("uv")
        if machine.has_module("venv") and machine.has_module("ensurepip"):
            return [base, "-m", "venv", folder]
        if uv is not None:
            return [uv, "venv", "--python", base, folder]
        major, minor = machine.version
        raise SetupError(
            f"This Python {major}.{minor} cannot make environments (its module ensurepip is missing).",
            hint=f"On Debian and Ubuntu install it with: apt install python{major}.{minor}-venv; "
            "elsewhere install uv or a Python from python.org.",
        )

    def install_torch(self, lock: Lock, *, replace: bool) -> str:
        """Install the pinned torch and return the index it came from, "" for the default one.

        It goes first: what depends on it would otherwise bring the default build with it, several gigabytes of CUDA
        libraries on Linux. replace: take out what is there, even of the right version (another build was asked for).
        """
        version = lock.pin("torch")
        wanted = f"torch=={version}"
        build = choose_build(self.machine, version)
        if replace:
            self._remove_torch()
        if build.index:
            self.machine.say(f"Installing {wanted}, {build.label}, from {build.index}")
            outcome = self._ask(["--index-url", build.index, wanted])
            if outcome.status == 0:
                return build.index
            if build.chosen:
                raise explained(outcome, f"The index in TORCH_INDEX_URL ({build.index}) gave no {wanted}.")
            self.machine.say(f"{build.index} gave no {wanted}; going on with the default build")
        self.machine.say(f"Installing {wanted}, {DEFAULT_BUILD.label}")
        major, minor = self.machine.version
        self._install(
            ["-c", str(lock.path), wanted],
            f"{wanted} could not be installed.",
            no_build=f"There is no {wanted} for Python {major}.{minor} on this system ({self.machine.architecture}).",
        )
        return ""

    def has_torch(self, lock: Lock) -> bool:
        found = self.machine.capture([str(self.environment.python), "-c", _VERSION_OF_TORCH])
        return found is not None and found.strip().partition("+")[0] == lock.pin("torch")

    def install_runtime(self, lock: Lock) -> None:
        self.machine.say(f"Installing the packages of {lock.path.name}")
        self._install(["-r", str(lock.path)], "The packages could not be installed.")

    def install_test(self, lock: Lock, runtime: Lock) -> None:
        self.machine.say(f"Installing the packages of {lock.path.name}")
        self._install(["-c", str(runtime.path), "-r", str(lock.path)], "The test packages could not be installed.")

    def _remove_torch(self) -> None:
        python = str(self.environment.python)
        uv = self.machine.which("uv")
        if self._pip_settings() is not None:
            self.machine.run([python, "-m", "pip", "uninstall", "--yes", "torch"])
        elif uv is not None:
            self.machine.run([uv, "pip", "uninstall", "--python", python, "torch"])

    def _pip_settings(self) -> str | None:
        """What pip was told by files and variables; None in an environment without pip."""
        return self.machine.capture([str(self.environment.python), "-m", "pip", "config", "list"])

    def _install(self, arguments: Sequence[str], failure: str, *, no_build: str = "") -> None:
        outcome = self._ask(arguments)
        if outcome.status != 0:
            raise explained(outcome, failure, no_build=no_build)

    def _ask(self, arguments: Sequence[str]) -> Outcome:
        """uv where it is to be had and would look where pip is told to look; pip otherwise, and after it."""
        python = str(self.environment.python)
        uv = self.machine.which("uv")
        settings = self._pip_settings()
        if uv is not None and not any(word in (settings or "") for word in _PIP_ONLY):
            outcome = self.machine.run([uv, "pip", "install", "--python", python, *arguments])
            if outcome.status == 0 or settings is None:
                return outcome
            self.machine.say("uv could not install this; going on with pip")
        return self.machine.run(
            [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
        )

    def _works(self) -> bool:
        """An environment that was cut off in the making has no pip; one whose Python was upgraded sees no packages."""
        python = str(self.environment.python)
        version = self.machine.capture([python, "-c", _PYTHON_VERSION])
        if version is None or version.strip() != "{}.{}".format(*self.machine.version):
            return False
        return (
            self.machine.which("uv") is not None or self.machine.capture([python, "-m", "pip", "--version"]) is not None
        )


def unwritable(folder: Path, error: OSError) -> SetupError:
    return SetupError(f"{folder} cannot be written ({error.strerror}).", hint=_ELSEWHERE)


def explained(outcome: Outcome, failure: str, *, no_build: str = "") -> SetupError:
    """The sentence for a failed command, read from what it wrote to stderr (shown above it in full)."""

    def says(signs: Sequence[str]) -> bool:
        return any(sign in outcome.errors for sign in signs)

    for signs, cause, cure in _CAUSES:
        if says(signs):
            return SetupError(f"{failure} {cause}", hint=cure)
    if says(_NO_BUILD) and no_build:
        return SetupError(
            no_build, hint="Use a 64-bit Python 3.11 to 3.14, or name an index that has it in TORCH_INDEX_URL."
        )
    return SetupError(failure, hint=f"The reason is in the lines above; when it is cured, {_AGAIN}")
