"""The entry file itself: read by old Pythons, harmless to import, and quick to hand over."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENTRY = ROOT / "webui.py"

# Run in a fresh interpreter: what a start brings in before it knows that the packages are there.
_IMPORTED = """
import sys
before = set(sys.modules)
from modules.bootstrap.start import bootstrap
status = bootstrap(["--port", "1"])
third = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(status, sorted(third))
"""


def test_importing_it_runs_nothing_and_brings_nothing() -> None:
    names = runpy.run_path(str(ENTRY), run_name="__mp_main__")
    public = {name for name in names if not name.startswith("__")}
    assert public == {"sys"}


@pytest.mark.parametrize("version", [(3, 4), (3, 7)])
def test_it_stays_readable_for_old_pythons(version: tuple[int, int]) -> None:
    ast.parse(ENTRY.read_text(encoding="utf-8"), feature_version=version)


def test_an_old_python_is_told_what_to_do() -> None:
    pretend = f"import sys, runpy; sys.version_info = (3, 9, 1); runpy.run_path({str(ENTRY)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("Inferenz needs Python 3.11 or newer; this is 3.9. ")
    assert done.stderr.count("\n") == 1


def test_on_windows_it_is_told_the_launcher() -> None:
    pretend = (
        "import sys, runpy; sys.version_info = (3, 9, 1); sys.platform = 'win32'; "
        f"runpy.run_path({str(ENTRY)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.endswith("run it with: py webui.py\n")


def test_in_an_environment_with_the_packages_nothing_foreign_is_imported_before_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.splitlines() == ["None ['modules']"], done.stderr
