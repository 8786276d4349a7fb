"""The history with real files: saving, paging, search, trash, and being rebuilt from the files alone."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from modules.core.errors import PictureMissing, StorageError
from modules.core.generation import parse_plan
from modules.imaging.encode import media_type
from modules.imaging.formats import Kind, SaveFormat
from modules.imaging.png import chunk, png_with_text, read_png, read_png_text
from modules.services.history import History, PictureRecord
from modules.services.pictures import TRASH, PictureIndex
from modules.services.provenance import contents
from modules.services.state import StateDatabase
from modules.services.storage import Files
from tests.services.samples import FACTS, make_plan, make_png

ROOT = Path(__file__).parents[2]
DAY = time.mktime((2026, 1, 31, 12, 0, 0, 0, 0, -1))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDatabase]:
    database = StateDatabase(tmp_path / "state.sqlite3")
    yield database
    database.close()


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def history(outputs: Path, state: StateDatabase) -> Iterator[History]:
    opened = History(outputs, state, now=lambda: DAY)
    yield opened
    opened.close()


def save(history: History, index: int = 0, job: str = "job", prompt: str = "a red apple") -> PictureRecord:
    return history.save(make_png(index), make_plan(prompt=prompt), index, job, model_hash="0123456789", facts=FACTS)


def pictures(outputs: Path) -> list[str]:
    return sorted(path.relative_to(outputs).as_posix() for path in outputs.rglob("*.png"))


def leftovers(outputs: Path) -> list[Path]:
    """Temporary files that stay. A thumbnail that is being written just now is given the time to be finished."""
    until = time.monotonic() + 10
    while (found := list(outputs.rglob(".inferenz-*"))) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def without_ids(records: tuple[PictureRecord, ...]) -> list[PictureRecord]:
    return [replace(record, id=0) for record in records]


def test_a_picture_is_saved_under_its_day_number_and_seed(history: History, outputs: Path) -> None:
    record = save(history, 2)
    assert record.path == "txt2img-images/2026-01-31/00000-3.png"
    assert (record.seed, record.width, record.height, record.steps) == (3, 64, 64, 20)
    assert (record.sampler, record.checkpoint, record.job, record.index) == ("Euler a", "starter", "job", 2)
    assert record.bytes == history.file(record.id).stat().st_size
    assert record.plan is not None
    assert parse_plan(record.plan) == make_plan().only(2)
    texts = read_png_text(history.file(record.id))
    assert texts["parameters"] == record.infotext
    assert "Seed: 3, Size: 64x64, Model hash: 0123456789, Model: starter" in record.infotext
    assert list(texts) == ["parameters", "inferenz"]
    with Image.open(history.file(record.id)) as image:
        assert image.getpixel((0, 0)) == (2, 2, 2)
    assert [save(history, n).path[-11:] for n in (0, 1)] == ["00001-1.png", "00002-2.png"]
    assert leftovers(outputs) == []


def test_numbers_go_on_from_what_is_there_and_never_replace(history: History, outputs: Path) -> None:
    folder = outputs / "txt2img-images/2026-01-31"
    folder.mkdir(parents=True)
    (folder / "00041-9.png").write_bytes(b"theirs")
    assert save(history).path.endswith("/00042-1.png")
    (folder / "00043-1.png").write_bytes(b"theirs")
    assert save(history).path.endswith("/00044-1.png")
    assert (folder / "00043-1.png").read_bytes() == b"theirs"


def test_no_date_folder_if_so_set(outputs: Path, state: StateDatabase) -> None:
    history = History(outputs, state, date_folders=lambda: False)
    assert save(history).path == "txt2img-images/00000-1.png"
    history.close()


def test_pages_are_newest_first_without_gaps_or_doubles(history: History) -> None:
    saved = [save(history, n % 4, job=f"job{n}").id for n in range(25)]
    seen: list[int] = []
    before: int | None = None
    while page := history.page(before, 10):
        seen += [record.id for record in page]
        before = page[-1].id
    assert seen == saved[::-1]
    assert history.count() == 25


def test_a_page_goes_on_after_a_picture_that_was_deleted_since(history: History) -> None:
    ids = [save(history).id for _ in range(6)]
    history.trash([ids[3]])
    history.empty_trash()
    assert [record.id for record in history.page(ids[3])] == [ids[2], ids[1], ids[0]]


@pytest.mark.parametrize("full_text", [True, False])
def test_search(outputs: Path, state: StateDatabase, full_text: bool) -> None:
    history = History(outputs, state, full_text=full_text)
    apple, pear = save(history, prompt="A red apple, on grass"), save(history, prompt="ein süßer Apfel 林檎の絵 100%")
    assert [record.id for record in history.page(query="appl grass")] == [apple.id]
    assert [record.id for record in history.page(query="APFEL")] == [pear.id]
    assert [record.id for record in history.page(query="檎")] == [pear.id]
    assert [record.id for record in history.page(query="100%")] == [pear.id]
    assert history.count(query="euler") == 2
    assert history.count(query="nothing") == 0
    for odd in ('"', "a AND", "NEAR(", "*", "' OR 1=1 --", "prompt:x", "%", "\0", "(((", "x" * 5000):
        history.page(query=odd)
    history.trash([apple.id])
    assert history.count(query="apple") == 0
    assert history.count(query="apple", trash=True) == 1
    history.close()
    # an index made without full-text search learns it, and the other way round
    other = History(outputs, state, full_text=not full_text)
    save(other, prompt="plum")
    assert other.count(query="plum") == 1
    assert other.count(query="apfel") == 1
    other.close()


def test_trash_restore_and_empty(history: History, outputs: Path) -> None:
    one, two = save(history, 0), save(history, 1)
    assert history.trash([one.id, one.id, 999]) == 1
    assert [record.id for record in history.page()] == [two.id]
    assert [record.path for record in history.page(trash=True)] == [f".inferenz/trash/{one.path}"]
    assert history.file(one.id).is_file()
    assert history.restore([one.id]) == 1
    assert history.get(one.id) == one
    history.trash([one.id])
    (outputs / one.path).write_bytes(b"another took the name")
    history.restore([one.id])
    assert history.get(one.id).path.endswith("/00000-1~1.png")
    history.trash([one.id, two.id])
    assert history.empty_trash() == 2
    assert history.count() == history.count(trash=True) == 0
    assert pictures(outputs) == [one.path]
    with pytest.raises(PictureMissing):
        history.get(one.id)


def test_a_file_deleted_by_hand_is_told_and_forgotten(history: History) -> None:
    record = save(history)
    history.file(record.id).unlink()
    with pytest.raises(PictureMissing, match="gone"):
        history.file(record.id)
    assert history.trash([record.id]) == 0
    assert history.count() == 0


def test_thumbnails_are_small_cached_and_made_again(history: History, outputs: Path) -> None:
    record = history.save(make_png(200, 1024), make_plan(), 0, "j", model_hash=None, facts=FACTS)
    assert history.wait(10)
    made = list((outputs / ".inferenz/thumbs").rglob("*.thumb"))
    assert len(made) == 1
    data = history.thumbnail(record.id)
    assert media_type(data) in {"image/webp", "image/jpeg"}
    assert made[0].read_bytes() == data
    made[0].unlink()
    assert history.thumbnail(record.id) == data
    history.trash([record.id])
    history.file(record.id).unlink()
    with pytest.raises(PictureMissing):
        history.thumbnail(record.id)


def test_the_index_is_rebuilt_from_the_files(outputs: Path, state: StateDatabase) -> None:
    clock = iter(range(1_700_000_000, 1_700_100_000))
    first = History(outputs, state, now=lambda: float(next(clock)))
    for n in range(12):
        save(first, n % 4, job=f"job{n}", prompt=f"apple {n}\nNegative prompt: not this one")
    first.set_favourite(first.page()[3].id, True)
    first.trash([first.page()[5].id])
    before, trashed = first.page(), first.page(trash=True)
    first.close()
    for path in (outputs / ".inferenz").glob("pictures*"):
        path.unlink()

    theirs = outputs / "img2img-images/2023-01-01"
    theirs.mkdir(parents=True)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "their cat\nSteps: 9, Sampler: Euler, Seed: 5".encode("utf-16-be")
    Image.new("RGB", (32, 16)).save(theirs / "00001-5.jpg", exif=exif)
    os.utime(theirs / "00001-5.jpg", (1_600_000_000, 1_600_000_000))
    (theirs / "half.png").write_bytes(make_png()[:-20])
    (theirs / "notes.txt").write_text("no picture")

    second = History(outputs, state)
    second.recover()
    assert second.wait(30)
    progress = second.progress()
    assert (progress.state, progress.unreadable) == ("idle", 1)
    assert "half.png" in progress.problems[0]
    records = second.page()
    assert [replace(record, id=0) for record in records[:-1]] == [replace(record, id=0) for record in before]
    assert [replace(record, id=0) for record in second.page(trash=True)] == [
        replace(record, id=0) for record in trashed
    ]
    assert [record.favourite for record in records].index(True) == 3
    cat = records[-1]
    assert (cat.prompt, cat.steps, cat.seed, cat.sampler, cat.plan) == ("their cat", 9, 5, "Euler", None)
    assert second.count(query="apple") == 11

    ids = [record.id for record in second.page()]
    (outputs / records[0].path).unlink()
    second.rebuild()
    assert second.wait(30)
    assert [record.id for record in second.page()] == ids[1:]
    second.close()


def test_a_damaged_index_is_made_anew(outputs: Path, state: StateDatabase) -> None:
    first = History(outputs, state)
    save(first)
    first.close()
    for path in (outputs / ".inferenz").glob("pictures*"):
        path.unlink()
    (outputs / ".inferenz/pictures.sqlite3").write_bytes(b"garbage " * 1000)
    second = History(outputs, state)
    assert second.recover() == 1
    assert second.count() == 1
    second.close()


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
from modules.services.pictures import TRASH, PictureIndex
from modules.services.provenance import contents
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


def test_an_index_made_anew_gives_no_id_a_second_time(outputs: Path, state: StateDatabase) -> None:
    """Browsers keep the pictures of ids they have seen, and ended jobs name theirs."""
    seen = []
    for _ in range(2):
        history = History(outputs, state)
        save(history)
        history.recover()
        assert history.wait(30)
        seen += [record.id for record in history.page()]
        history.close()
        for path in (outputs / ".inferenz").glob("pictures*"):
            path.unlink()
        time.sleep(0.02)
    assert len(set(seen)) == len(seen) == 3
    assert max(seen) < 2**53


def test_a_move_takes_the_place_of_a_record_without_a_file(tmp_path: Path) -> None:
    """The indexer leaves one where a picture went to the trash while it was read."""
    index = PictureIndex(tmp_path / "index.sqlite3")
    here, there = "2026/1.png", f"{TRASH}2026/1.png"
    _, picture = index.put([(path, contents(8, 8, {}), 1, 1, 1.0) for path in (here, there)], ())
    index.move(picture, here)
    assert [(record.id, record.path) for record in index.page(None, 10)] == [(picture, here)]
    index.close()


def test_a_picture_that_lies_keeps_no_other_out(history: History, outputs: Path) -> None:
    good = save(history)
    texts = read_png_text(outputs / good.path)
    folder = outputs / "foreign"
    folder.mkdir()
    for name, bad in (("half", texts["inferenz"].replace('"job":"job"', r'"job":"\ud800"')), ("deep", "[" * 100_000)):
        (folder / f"{name}.png").write_bytes(png_with_text(make_png(), {"inferenz": bad}))
    steps = {"parameters": "a cat\nSteps: 99999999999999999999999, Sampler: Euler, Seed: 7"}
    (folder / "steps.png").write_bytes(png_with_text(make_png(), steps))
    history.recover()
    assert history.wait(30)
    assert history.progress().error == ""
    assert history.count() == 4


@pytest.mark.parametrize("kind", ["jpg", "webp", "avif"])
def test_other_formats_are_kept_shown_and_found_again(outputs: Path, state: StateDatabase, kind: Kind) -> None:
    history = History(outputs, state, now=lambda: DAY, save_format=lambda: SaveFormat(kind=kind, quality=80))
    record = save(history, 2)
    assert record.path.endswith(f"00000-3.{kind}")
    assert media_type(history.thumbnail(record.id)).startswith("image/")
    history.set_favourite(record.id, True)
    history.close()
    (outputs / ".inferenz" / "pictures.sqlite3").unlink()
    again = History(outputs, state, now=lambda: DAY)
    again.rebuild()
    again.wait()
    (found,) = again.page()
    assert replace(found, id=0) == replace(record, id=0, favourite=True)
    assert save(again, 1).path.endswith("00001-2.png")
    assert again.trash([found.id]) == again.restore([found.id]) == 1
    again.close()


def test_without_metadata_the_file_says_nothing_and_the_gallery_knows(outputs: Path, state: StateDatabase) -> None:
    history = History(outputs, state, now=lambda: DAY, metadata=lambda: False)
    record = save(history, 2)
    assert read_png_text(history.file(record.id)) == {}
    assert (record.prompt, record.seed) == ("a red apple", 3)
    history.rebuild()
    history.wait()
    assert history.get(record.id) == record  # the file is as it was when the gallery knew
    history.close()
    (outputs / ".inferenz" / "pictures.sqlite3").unlink()
    again = History(outputs, state, now=lambda: DAY)
    again.rebuild()
    again.wait()
    (found,) = again.page()
    assert (found.prompt, found.seed, found.plan) == ("", None, None)
    again.close()
