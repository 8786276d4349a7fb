"""`python webui.py test`: style, types and import contracts, then the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modules.bootstrap.machine import Machine

_LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
STATIC: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ruff check", ("-m", "ruff", "check")),
    ("ruff format", ("-m", "ruff", "format", "--check")),
    ("mypy", ("-m", "mypy")),
    ("import contracts", ("-c", _LINT_IMPORTS)),
)


def run_checks(machine: Machine, root: Path, pytest_arguments: Sequence[str]) -> int:
    """Run everything, even after a failure, so that one run tells all. Returns the first exit status that is not 0.

    pytest runs last and gets the arguments; its closing lines are the last that are printed.
    """
    python = str(machine.executable)
    statuses: list[tuple[str, int]] = []
    for name, command in STATIC:
        machine.say(f"--- {name}")
        statuses.append((name, machine.follow([python, *command], root)))
    failed = [name for name, status in statuses if status]
    if failed:
        machine.say(f"--- failed so far: {', '.join(failed)}")
    machine.say("--- pytest")
    statuses.append(("pytest", machine.follow([python, "-m", "pytest", *pytest_arguments], root)))
    return next((status for _, status in statuses if status), 0)
