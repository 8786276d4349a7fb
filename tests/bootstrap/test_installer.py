"""pip and uv as they would be called, and the sentence for each way in which they fail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from modules.bootstrap.installer import Environment, Installer, explained
from modules.bootstrap.machine import Outcome
from modules.bootstrap.requirements import runtime_lock
from modules.core.errors import SetupError
from tests.bootstrap.fakes import DONE, Computer

UV = {"uv": "/opt/uv"}
CPU_PAGE = 'href="torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl"'
CPU = "https://download.pytorch.org/whl/cpu"


def installer(computer: Computer) -> Installer:
    environment = Environment(folder=computer.root / ".venv", windows=computer.platform == "win32")
    return Installer(machine=computer.machine(), environment=environment)


def test_without_ensurepip_the_cure_is_named(root: Path) -> None:
    computer = Computer(root=root, absent_modules=frozenset({"ensurepip"}), version=(3, 12))
    with pytest.raises(SetupError, match=r"apt install python3\.12-venv"):
        installer(computer).make()


def test_uv_makes_an_environment_where_ensurepip_is_missing(root: Path) -> None:
    computer = Computer(root=root, absent_modules=frozenset({"ensurepip"}), programs=UV, pip_settings=None)
    installer(computer).make()
    assert computer.ran[0][:2] == ["/opt/uv", "venv"]
    installer(computer).install_runtime(runtime_lock(root))
    lock = str(root / "requirements.lock")
    assert computer.ran[1] == ["/opt/uv", "pip", "install", "--python", str(computer.python), "-r", lock]


def test_pip_goes_on_where_uv_fails(root: Path) -> None:
    def no_uv(command: Sequence[str]) -> Outcome:
        return Outcome(status=2) if command[0] == "/opt/uv" else DONE

    computer = Computer(root=root, programs=UV, answer=no_uv)
    installer(computer).install_runtime(runtime_lock(root))
    assert [command[:4][-1] for command in computer.ran] == ["--python", "install"]
    assert computer.said[-1] == "uv could not install this; going on with pip"


def test_pip_is_asked_where_it_was_told_to_look_elsewhere(root: Path) -> None:
    computer = Computer(root=root, programs=UV, pip_settings="global.index-url='https://example.invalid/simple'\n")
    installer(computer).install_runtime(runtime_lock(root))
    assert [command[0] for command in computer.ran] == [str(computer.python)]


def test_torch_comes_from_the_index_that_has_it(root: Path) -> None:
    computer = Computer(root=root, pages={f"{CPU}/torch/": CPU_PAGE})
    assert installer(computer).install_torch(runtime_lock(root), replace=False) == CPU
    assert computer.installs() == [f"--disable-pip-version-check --no-input --index-url {CPU} torch==2.13.0"]


def test_an_index_that_fails_after_all_is_followed_by_the_default_one(root: Path) -> None:
    def fail_index(command: Sequence[str]) -> Outcome:
        return Outcome(status=1) if "--index-url" in command else DONE

    computer = Computer(root=root, pages={f"{CPU}/torch/": CPU_PAGE}, answer=fail_index)
    assert installer(computer).install_torch(runtime_lock(root), replace=False) == ""
    assert len(computer.installs()) == 2


def test_an_index_of_ones_own_is_not_replaced_silently(root: Path) -> None:
    computer = Computer(
        root=root,
        environ={"TORCH_INDEX_URL": "https://example.invalid/whl"},
        answer=lambda _: Outcome(status=1, errors="ERROR: No matching distribution found for torch"),
    )
    with pytest.raises(SetupError, match=r"TORCH_INDEX_URL \(https://example.invalid/whl\) gave no torch==2.13.0"):
        installer(computer).install_torch(runtime_lock(root), replace=False)
    assert len(computer.ran) == 1


def test_a_system_without_a_build_of_torch_is_named(root: Path) -> None:
    computer = Computer(
        root=root,
        platform="darwin",
        version=(3, 15),
        answer=lambda _: Outcome(status=1, errors="ERROR: No matching distribution found for torch==2.13.0"),
    )
    with pytest.raises(SetupError, match=r"no torch==2.13.0 for Python 3.15 .* 64-bit Python 3.11 to 3.14"):
        installer(computer).install_torch(runtime_lock(root), replace=False)


@pytest.mark.parametrize(
    ("errors", "sentence"),
    [
        ("WARNING: Retrying ... NewConnectionError(...)\nERROR: No matching distribution found", "cannot be reached"),
        ("Caused by: dns error: failed to lookup address information", "cannot be reached"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: [Errno 13] Permission denied: '/srv/inferenz/.venv'", "may not be written"),
        ("OSError: [WinError 5] Zugriff verweigert: 'C:\\inferenz\\.venv\\Lib'", "may not be written"),
        ("OSError: [WinError 32] Der Prozess kann nicht auf die Datei zugreifen", "Another program holds"),
        ("[Errno 2] No such file\nHINT: this system does not have Windows Long Path support enabled", "short path"),
        ("ERROR: something new", "lines above"),
    ],
)
def test_failures_are_told_in_a_sentence(errors: str, sentence: str) -> None:
    told = str(explained(Outcome(status=1, errors=errors), "The packages could not be installed."))
    assert sentence in told
    assert "\n" not in told
