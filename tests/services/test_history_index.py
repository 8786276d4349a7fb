"""The index of pictures, rebuilt from the files alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

from PIL import Image

from modules.imaging.png import png_with_text, read_png_text
from modules.services.history import History
from modules.services.pictures import TRASH, PictureIndex
from modules.services.provenance import contents
from modules.services.state import StateDatabase
from tests.services.histories import save, without_ids
from tests.services.samples import make_png


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
    assert without_ids(records[:-1]) == without_ids(before)
    assert without_ids(second.page(trash=True)) == without_ids(trashed)
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
