"""Every way into the program, on computers made of dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from modules.bootstrap.machine import Outcome
from modules.bootstrap.start import bootstrap
from tests.bootstrap.fakes import DONE, Computer, Replaced

PACKAGES = {"torch": "2.13.0+cpu", "gradio": "6.31.0"}


def enter(computer: Computer, *arguments: str) -> list[str]:
    """Start on a POSIX computer that has to continue in .venv. Returns the command it becomes."""
    with pytest.raises(Replaced) as replaced:
        bootstrap(arguments, root=computer.root, machine=computer.machine())
    return replaced.value.command


def test_an_environment_that_has_the_packages_is_used_at_once(root: Path) -> None:
    computer = Computer(root=root, packages=PACKAGES)
    assert bootstrap(["--port", "1"], root=root, machine=computer.machine()) is None
    assert (computer.ran, computer.said, computer.fetched) == ([], [], [])
    assert not (root / ".venv").exists()


@pytest.mark.parametrize(
    "packages", [{}, {"torch": "2.13.0"}, {**PACKAGES, "gradio": "5.9"}, {**PACKAGES, "gradio": "7.0"}]
)
def test_missing_old_or_too_new_packages_lead_to_the_own_environment(root: Path, packages: dict[str, str]) -> None:
    computer = Computer(root=root, packages=packages)
    assert enter(computer, "--port", "1") == [str(computer.python), str(root / "webui.py"), "--port", "1"]
    lock = root / "requirements.lock"
    assert computer.ran[0][1:] == ["-m", "venv", str(root / ".venv")]
    assert computer.installs() == [
        f"--disable-pip-version-check --no-input -c {lock} torch==2.13.0",
        f"--disable-pip-version-check --no-input -r {lock}",
    ]


def test_the_second_start_runs_nothing(root: Path) -> None:
    enter(Computer(root=root))
    again = Computer(root=root)
    enter(again)
    inside = Computer(root=root, inside=True)
    assert bootstrap([], root=root, machine=inside.machine()) is None
    assert (again.ran, again.fetched, inside.ran) == ([], [], [])


def test_a_changed_lock_updates_and_keeps_the_right_torch(root: Path) -> None:
    enter(Computer(root=root))
    lock = root / "requirements.lock"
    lock.write_text(lock.read_text(encoding="utf-8") + "tqdm==4.70.1\n", encoding="utf-8")
    computer = Computer(root=root, torch="2.13.0+cpu")
    enter(computer)
    assert computer.installs() == [f"--disable-pip-version-check --no-input -r {lock}"]


def test_line_ends_of_a_checkout_do_not_count_as_a_change(root: Path) -> None:
    enter(Computer(root=root))
    lock = root / "requirements.lock"
    lock.write_bytes(lock.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    computer = Computer(root=root)
    enter(computer)
    assert computer.ran == []


def test_an_install_that_fails_leaves_no_stamp_and_the_next_start_goes_on(root: Path) -> None:
    def fail_second(command: Sequence[str]) -> Outcome:
        return Outcome(status=1, errors="ERROR: nothing in particular") if "-r" in command else DONE

    failing = Computer(root=root, answer=fail_second)
    assert bootstrap([], root=root, machine=failing.machine()) == 1
    assert [path.name for path in (root / ".venv").glob("*.stamp")] == ["inferenz-torch.stamp"]
    computer = Computer(root=root, torch="2.13.0")
    enter(computer)
    assert [name.split()[-2] for name in computer.installs()] == ["-r"]


def test_ctrl_c_during_the_install_leaves_no_stamp(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(command: Sequence[str]) -> Outcome:
        if "install" in command:
            raise KeyboardInterrupt
        return DONE

    assert bootstrap([], root=root, machine=Computer(root=root, answer=interrupted).machine()) == 130
    assert list((root / ".venv").glob("*.stamp")) == []
    assert capsys.readouterr().err.count("\n") == 1


def test_an_upgraded_python_makes_the_environment_new(root: Path) -> None:
    enter(Computer(root=root))
    (root / ".venv" / "left-over").touch()
    computer = Computer(root=root, inside=True, version=(3, 12), environment_python="3.11")
    enter(computer)
    assert computer.ran[0][1:3] == ["-m", "venv"]
    assert "python3" in computer.ran[0][0]
    assert not (root / ".venv" / "left-over").exists()


def test_a_vanished_interpreter_makes_the_environment_new(root: Path) -> None:
    first = Computer(root=root)
    enter(first)
    first.python.unlink()
    computer = Computer(root=root)
    enter(computer)
    assert computer.ran[0][1:3] == ["-m", "venv"]


def test_a_stamp_that_is_cut_off_counts_as_none(root: Path) -> None:
    enter(Computer(root=root))
    (root / ".venv" / "inferenz-runtime.stamp").write_text('{"content": "', encoding="utf-8")
    computer = Computer(root=root, torch="2.13.0")
    enter(computer)
    assert len(computer.installs()) == 1


def test_another_torch_index_replaces_torch_once(root: Path) -> None:
    enter(Computer(root=root))
    index = "https://example.invalid/whl/cu130"
    computer = Computer(root=root, torch="2.13.0", environ={"TORCH_INDEX_URL": index})
    enter(computer)
    assert computer.ran[0][1:] == ["-m", "pip", "uninstall", "--yes", "torch"]
    assert computer.installs()[0].endswith(f"--index-url {index} torch==2.13.0")
    again = Computer(root=root, torch="2.13.0", environ={"TORCH_INDEX_URL": index})
    enter(again)
    assert again.ran == []


def test_windows_follows_and_passes_the_exit_status_on(root: Path) -> None:
    computer = Computer(root=root, platform="win32", status=3)
    assert bootstrap(["generate", "x"], root=root, machine=computer.machine()) == 3
    python = root / ".venv" / "Scripts" / "python.exe"
    assert computer.followed == [[str(python), str(root / "webui.py"), "generate", "x"]]


def test_windows_does_not_delete_the_environment_it_runs_in(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bootstrap([], root=root, machine=Computer(root=root, platform="win32").machine())
    computer = Computer(root=root, platform="win32", inside=True, version=(3, 12), environment_python="3.11")
    assert bootstrap([], root=root, machine=computer.machine()) == 1
    assert "Delete that folder" in capsys.readouterr().err
    assert computer.python.exists()


def test_the_test_extra_is_installed_on_demand_and_stamped_apart(root: Path) -> None:
    enter(Computer(root=root))
    computer = Computer(root=root, torch="2.13.0")
    assert enter(computer, "test", "-k", "euler")[-3:] == ["test", "-k", "euler"]
    locks = f"-c {root / 'requirements.lock'} -r {root / 'requirements-test.lock'}"
    assert computer.installs() == [f"--disable-pip-version-check --no-input {locks}"]
    with (root / "requirements-test.lock").open("a", encoding="utf-8") as file:
        file.write("ruff==0.17.6\n")
    plain = Computer(root=root)
    enter(plain)
    assert plain.ran == []


def test_the_checks_run_in_order_and_the_first_failure_is_the_exit_status(root: Path) -> None:
    computer = Computer(root=root, packages={**PACKAGES, "pytest": "9.2.0"}, status=4)
    assert bootstrap(["test", "-k", "euler"], root=root, machine=computer.machine()) == 4
    tools = [" ".join(command[1:]) for command in computer.followed]
    assert tools[0] == "-m ruff check"
    assert tools[1] == "-m ruff format --check"
    assert tools[2] == "-m mypy"
    assert "lint_imports" in tools[3]
    assert tools[4] == "-m pytest -k euler"
    computer.status = 0
    assert bootstrap(["test"], root=root, machine=computer.machine()) == 0


def test_a_folder_that_may_not_be_written_is_one_sentence(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / ".venv").write_text("in the way", encoding="utf-8")
    assert bootstrap([], root=root, machine=Computer(root=root).machine()) == 1
    told = capsys.readouterr().err
    assert "cannot be written" in told
    assert told.count("\n") == 1
