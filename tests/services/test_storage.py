"""Files that are whole or not there, on file systems with and without hard links."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from modules.core.errors import StorageError
from modules.services.lock import FolderLock
from modules.services.storage import Files, remove_stale, storage_error, walk


class WithoutLinks(Files):
    """exFAT and some network shares."""

    def link(self, source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


class Windows(Files):
    """A rename never replaces, and is refused while a virus scanner looks into the file. held: how often it is."""

    windows = True

    def __init__(self, held: int = 0) -> None:
        self.held = held

    def rename(self, source: Path, target: Path) -> None:
        if self.held:
            self.held -= 1
            raise in_use()
        if target.exists():
            raise FileExistsError(errno.EEXIST, "there already")
        super().rename(source, target)


def in_use() -> PermissionError:
    error = PermissionError(errno.EACCES, "in use")
    error.winerror = 32  # type: ignore[attr-defined, unused-ignore]
    return error


@pytest.fixture(params=[Files, WithoutLinks, Windows])
def files(request: pytest.FixtureRequest) -> Files:
    kind: type[Files] = request.param
    return kind()


def test_a_new_file_is_whole_and_alone(files: Files, tmp_path: Path) -> None:
    files.publish(b"picture", tmp_path / "a/b/c.png")
    assert (tmp_path / "a/b/c.png").read_bytes() == b"picture"
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["c.png"]


def test_another_file_is_never_replaced(files: Files, tmp_path: Path) -> None:
    (tmp_path / "c.png").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        files.publish(b"ours", tmp_path / "c.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("c.png", b"theirs")]


def test_a_file_moves_beside_one_of_its_name(files: Files, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "a.png").write_bytes(b"%d" % number)
        files.move(tmp_path / "a.png", tmp_path / "trash/x/a.png")
    assert {path.name: path.read_bytes() for path in (tmp_path / "trash/x").iterdir()} == {
        "a.png": b"0", "a~1.png": b"1", "a~2.png": b"2",
    }  # fmt: skip
    assert not (tmp_path / "a.png").exists()
    with pytest.raises(FileNotFoundError):
        files.move(tmp_path / "a.png", tmp_path / "trash/b.png")
    assert not (tmp_path / "trash/b.png").exists()


def test_a_file_that_is_scanned_for_viruses_is_kept(tmp_path: Path) -> None:
    Windows(held=3).publish(b"picture", tmp_path / "a.png")
    Windows(held=3).move(tmp_path / "a.png", tmp_path / "trash/a.png")
    assert [path.read_bytes() for path in tmp_path.rglob("*.png")] == [b"picture"]


def test_a_file_that_is_open_elsewhere_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(StorageError, match="another program has it open"):
        Windows(held=99).move(tmp_path / "a.png", tmp_path / "b.png")


def test_a_path_that_is_too_long_is_no_missing_file(tmp_path: Path) -> None:
    class Short(Windows):
        def rename(self, source: Path, target: Path) -> None:
            raise FileNotFoundError(errno.ENOENT, "The system cannot find the path specified")  # what Windows says

    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(StorageError, match="could not be moved"):
        Short().move(tmp_path / "a.png", tmp_path / "b.png")


def test_a_folder_that_is_a_file_is_told(files: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"c\.png could not be saved"):
        files.publish(b"x", tmp_path / "file/c.png")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "full"), (errno.EROFS, "not writable"), (errno.EIO, "error")]
)
def test_the_systems_errors_are_said_in_words(number: int, words: str, tmp_path: Path) -> None:
    error = storage_error("a.png could not be saved", tmp_path, OSError(number, os.strerror(number)))
    assert words in str(error).lower()


def test_only_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    keep = [f".inferenz-{os.getpid()}-abc.tmp", "00001-5.png", ".inferenz-x.tmp", "mine.tmp", "00002-6.png"]
    for name in (*keep, ".inferenz-999999999-abc.tmp", "00003-7.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "00002-6.png").write_bytes(b"full")
    for name in ("00002-6.png", "00003-7.png"):
        os.utime(tmp_path / name, (1, 1))
    assert remove_stale(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == set(keep)
    assert remove_stale(tmp_path / "none") == 0


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "a.png").write_bytes(b"")
    assert [file.path.name for file in walk(tmp_path, frozenset({".png"}))] == ["a.png"]


def test_a_folder_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="--data-dir"):
        FolderLock(tmp_path / "file" / "outputs" / "server.lock")
