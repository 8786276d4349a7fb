"""The history with real files: saving, paging, search and trash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from modules.core.errors import PictureMissing
from modules.core.generation import parse_plan
from modules.imaging.encode import media_type
from modules.imaging.formats import Kind, SaveFormat
from modules.imaging.png import read_png_text
from modules.services.history import History
from modules.services.state import StateDatabase
from tests.services.histories import DAY, leftovers, pictures, save
from tests.services.samples import FACTS, make_plan, make_png


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
