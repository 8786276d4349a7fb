"""Pictures saved while disks are full, the power goes and processes die: whole or not at all."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modules.core.errors import StorageError
from modules.imaging.png import chunk, read_png
from modules.services.history import History
from modules.services.state import StateDatabase
from modules.services.storage import Files
from tests.services.histories import leftovers, pictures, save
from tests.services.samples import FACTS, make_plan, make_png

ROOT = Path(__file__).parents[2]


def fill(history: History) -> None:
    for _ in range(10):
        save(history)


class FullDisk(Files):
    """A disk on which `free` bytes of pictures are left."""

    def __init__(self, free: int) -> None:
        self.free = free

    def write(self, path: Path, data: bytes) -> None:
        super().write(path, data[: self.free])
        if len(data) > self.free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.free -= len(data)


def test_a_full_disk_leaves_nothing_half_written(outputs: Path, state: StateDatabase) -> None:
    disk = FullDisk(10_000)
    history = History(outputs, state, files=disk)
    while disk.free > 1500:
        save(history)
    count = history.count()
    with pytest.raises(StorageError, match="full"):
        fill(history)
    files = [path for path in pictures(outputs) if not path.startswith(".")]
    assert len(files) == history.count() >= count
    assert leftovers(outputs) == []
    disk.free = 100_000
    save(history)
    history.close()


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_really_full_disk(tmp_path: Path, state: StateDatabase) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        (disk / "filler").write_bytes(bytes(300_000))
        history = History(disk / "outputs", state)
        noise = os.urandom(60_000)
        png = make_png()[:33] + chunk(b"teSt", noise) + make_png()[33:]

        def fill() -> None:
            for _ in range(30):
                history.save(png, make_plan(), 0, "j", model_hash=None, facts=FACTS)

        with pytest.raises(StorageError, match="full"):
            fill()
        saved = history.count()
        history.close()
        files = list((disk / "outputs").rglob("0*.png"))
        for path in files:
            read_png(path)
        assert 0 < saved <= len(files) <= saved + 1  # at most the record of one whole file is still to be written
        assert leftovers(disk) == []

        (disk / "filler").unlink()
        history = History(disk / "outputs", state)
        history.recover()
        assert history.wait(10)
        assert history.count() == len(files)
        history.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


class PowerCut(BaseException):
    """The process is gone: no `except Exception` and no tidying up runs after it."""


class CutAt(Files):
    """Stops the world at one moment of publishing."""

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def publish(self, data: bytes, final: Path, *, durable: bool = True) -> None:
        temporary = final.with_name(".inferenz-999999999-abcdef.tmp")  # of a process that is not there
        final.parent.mkdir(parents=True, exist_ok=True)
        if self.moment == "half":
            temporary.write_bytes(data[: len(data) // 2])
        else:
            self.write(temporary, data)
            if self.moment != "before the name":
                self.name(temporary, final)
            if self.moment == "before the record":
                temporary.unlink(missing_ok=True)
        raise PowerCut


@pytest.mark.parametrize(
    ("moment", "survives"),
    [("half", 0), ("before the name", 0), ("both names", 1), ("before the record", 1)],
)
def test_whatever_moment_the_power_goes(outputs: Path, state: StateDatabase, moment: str, survives: int) -> None:
    history = History(outputs, state, files=CutAt(moment))
    with pytest.raises(PowerCut):
        save(history, 1)
    assert history.count() == 0
    history.close()
    after = History(outputs, state)
    assert after.recover() == survives
    assert after.wait(10)
    assert [(record.job, record.index, record.seed) for record in after.of_job("job")] == [("job", 1, 2)] * survives
    assert len(pictures(outputs)) == survives
    assert leftovers(outputs) == []
    after.close()


SAVING = """
import sys
from pathlib import Path
from modules.services.history import History
from modules.services.state import StateDatabase
from tests.services.samples import FACTS, make_plan, make_png
folder = Path(sys.argv[1])
history = History(folder / "outputs", StateDatabase(folder / "state.sqlite3"))
for n in range(int(sys.argv[3])):
    record = history.save(make_png(n % 256), make_plan(), 0, f"{sys.argv[2]}{n}", model_hash=None, facts=FACTS)
    print(record.path, flush=True)
history.close()
"""


def saving(folder: Path, job: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SAVING, str(folder), job, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_whole_pictures_and_no_lost_record(tmp_path: Path) -> None:
    told: list[str] = []
    for attempt in range(3):
        with saving(tmp_path, f"{attempt}-", 100_000) as process:
            assert process.stdout is not None
            told += [process.stdout.readline().strip() for _ in range(7 + attempt * 5)]
            process.kill()
            told += [line.strip() for line in process.stdout.read().split("\n")[:-1]]
    state = StateDatabase(tmp_path / "state.sqlite3")
    history = History(tmp_path / "outputs", state)
    history.recover()
    assert history.wait(30)
    records = {record.path for record in history.page(limit=500)}
    assert set(told) <= records
    assert records == {path for path in pictures(tmp_path / "outputs") if not path.startswith(".")}
    assert history.progress().unreadable == 0
    history.close()
    assert leftovers(tmp_path) == []
    state.close()


def test_two_processes_and_threads_save_into_one_folder(tmp_path: Path) -> None:
    state = StateDatabase(tmp_path / "state.sqlite3")
    history = History(tmp_path / "outputs", state)
    with saving(tmp_path, "other", 20) as process:
        threads = [threading.Thread(target=lambda: [save(history) for _ in range(5)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.communicate()
        assert process.returncode == 0
    records = history.page(limit=500)
    numbers = [Path(record.path).name.split("-")[0] for record in records]
    assert len(set(numbers)) == len(records) == 40
    history.close()
    state.close()


def test_a_second_try_after_a_record_failed_writes_no_second_file(history: History, outputs: Path) -> None:
    index = sqlite3.connect(outputs / ".inferenz" / "pictures.sqlite3")
    index.execute("CREATE TRIGGER full BEFORE INSERT ON pictures BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
    with pytest.raises(StorageError, match="not in the gallery yet"):
        save(history)
    assert len(pictures(outputs)) == 1
    index.execute("DROP TRIGGER full")
    index.close()
    record = save(history)
    assert pictures(outputs) == [record.path]
    assert save(history, index=1).path != record.path
    assert [each.index for each in history.of_job("job")] == [0, 1]
