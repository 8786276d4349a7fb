"""The computer as the bootstrap sees it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

PROBE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended. `errors` is what it wrote to stderr (shown to the person as it came, too)."""

    status: int
    errors: str = ""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Facts about the running interpreter and the few acts that touch the world.

    platform: `sys.platform`; architecture: lower case, as in wheel names (x86_64, amd64, aarch64, arm64).
    executable, base_executable: this interpreter, and the one its virtual environment was made from (or the same).
    prefix: the environment's folder. has_module answers for the running interpreter and imports nothing.
    installed: version of a distribution in the running interpreter, None if it is not there.
    which: path of a program on PATH. capture: a command's output, None if it fails or does not exist.
    run: a command with its output shown. fetch: a page's text, None if it cannot be had within PROBE_SECONDS.
    driver_cuda: CUDA version of the NVIDIA driver library as (major, minor), None without one.
    has_amd: whether the kernel driver that ROCm needs is there (Linux).
    replace: become this command (POSIX); does not return.
    follow: run this command in this folder to its end with Ctrl+C left to it, and return its exit status.
    """

    platform: str
    architecture: str
    version: tuple[int, int]
    executable: Path
    base_executable: Path
    prefix: Path
    environ: Mapping[str, str]
    has_module: Callable[[str], bool]
    installed: Callable[[str], str | None]
    which: Callable[[str], str | None]
    capture: Callable[[Sequence[str]], str | None]
    run: Callable[[Sequence[str]], Outcome]
    fetch: Callable[[str], str | None]
    driver_cuda: Callable[[], tuple[int, int] | None]
    has_amd: Callable[[], bool]
    replace: Callable[[Sequence[str]], NoReturn]
    follow: Callable[[Sequence[str], Path], int]
    say: Callable[[str], None]


def this_machine() -> Machine:
    import platform

    return Machine(
        platform=sys.platform,
        architecture=platform.machine().lower(),
        version=(sys.version_info.major, sys.version_info.minor),
        executable=Path(sys.executable),
        base_executable=Path(getattr(sys, "_base_executable", None) or sys.executable),
        prefix=Path(sys.prefix),
        environ=os.environ,
        has_module=_has_module,
        installed=_installed,
        which=_which,
        capture=_capture,
        run=_run,
        fetch=_fetch,
        driver_cuda=_driver_cuda,
        has_amd=Path("/dev/kfd").exists,
        replace=_replace,
        follow=_follow,
        say=_say,
    )


def _has_module(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def _installed(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _which(program: str) -> str | None:
    import shutil

    return shutil.which(program)


def _capture(command: Sequence[str]) -> str | None:
    import subprocess

    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def _run(command: Sequence[str]) -> Outcome:
    """Standard output is the terminal's own, so that progress bars stay alive; stderr is passed on line by line."""
    import subprocess

    lines: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        for raw in child.stderr:
            line = raw.decode(errors="replace")
            lines.append(line)
            sys.stderr.write(line)
            sys.stderr.flush()
    return Outcome(status=child.returncode, errors="".join(lines))


def _fetch(address: str) -> str | None:
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(address, timeout=PROBE_SECONDS) as answer:
            body: bytes = answer.read()
    except (OSError, HTTPException, ValueError):
        return None
    return body.decode(errors="replace")


def _driver_cuda() -> tuple[int, int] | None:
    """cuDriverGetVersion needs no initialisation: 1000 x major + 10 x minor of the newest CUDA the driver serves."""
    import ctypes

    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        number = ctypes.c_int()
        if library.cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return (number.value // 1000, number.value % 1000 // 10) if number.value else None


def _replace(command: Sequence[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], list(command))


def _follow(command: Sequence[str], folder: Path) -> int:
    """Ctrl+C and Ctrl+Break reach the child by themselves (same console); the parent must outlive it to hand on its
    exit status."""
    import signal
    import subprocess

    if hasattr(signal, "SIGBREAK"):  # Windows: no exception, it would end this process at once
        signal.signal(signal.SIGBREAK, signal.SIG_IGN)

    child = subprocess.Popen(command, cwd=folder)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def _say(line: str) -> None:
    # A folder's name may have letters that a pipe or file on Windows has no place for
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
