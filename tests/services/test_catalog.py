"""The catalog over real folders: listing, names, hashes, broken and foreign files, what it remembers."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modules.core.errors import CheckpointMissing
from modules.services.catalog import Catalog
from modules.services.hashing import Hasher, HashJob
from modules.services.model_folders import model_files
from modules.services.readers import installed_readers
from modules.services.state import StateDatabase
from tests.services.model_files import CountingReader, readers, write_model


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds


class Place:
    """A models folder, and catalogs of it that are closed in the end."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.checkpoints = self.models / "Stable-diffusion"
        self.vaes = self.models / "VAE"
        self.state = StateDatabase(folder / "state.sqlite3")
        self.reader = CountingReader()
        self.clock = Clock()
        self.opened: list[Catalog] = []

    def catalog(self, *ckpt_dirs: Path, hashing: bool = False, version: str = "1") -> Catalog:
        catalog = Catalog(
            (self.models,), ckpt_dirs, (), self.state, readers=readers(self.reader, version), hashing=lambda: hashing,
            now=self.clock,
        )  # fmt: skip
        self.opened.append(catalog)
        return catalog

    def close(self) -> None:
        for catalog in self.opened:
            catalog.close()
        self.state.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def until(catalog: Catalog, happened: Callable[[], object]) -> None:
    """Wait for the catalog to tell of a change after which `happened()`."""
    told = threading.Event()
    end = catalog.subscribe(told.set)
    while not happened():
        assert told.wait(10)
        told.clear()
    end()


def names(catalog: Catalog) -> list[str]:
    return [info.name for info in catalog.checkpoints()]


def test_files_of_all_folders_are_listed_by_name(place: Place, tmp_path: Path) -> None:
    write_model(place.checkpoints / "b.safetensors")
    write_model(place.checkpoints / "anime/Deep/a.safetensors")
    write_model(place.checkpoints / "inferenz-starter.safetensors")
    write_model(tmp_path / "more/z.safetensors")
    write_model(place.checkpoints / ".hidden.safetensors")
    (place.checkpoints / "notes.txt").write_text("no model")
    catalog = place.catalog(tmp_path / "more", tmp_path / "missing", place.checkpoints / "anime")
    assert names(catalog) == ["anime/Deep/a", "b", "z", "inferenz-starter"]
    info = catalog.find("b")
    assert (info.family, info.supported, info.size > 0, info.path) == (
        "sd1", True, True, str(place.checkpoints / "b.safetensors"),
    )  # fmt: skip


def test_new_changed_and_deleted_files_are_seen_within_a_second(place: Place) -> None:
    write_model(place.checkpoints / "a.safetensors")
    catalog = place.catalog()
    heard: list[int] = []
    assert names(catalog) == ["a"]
    catalog.subscribe(lambda: heard.append(1))
    path = write_model(place.checkpoints / "b.safetensors")
    assert names(catalog) == ["a"]
    place.clock.seconds += 1.1
    assert names(catalog) == ["a", "b"]
    write_model(path, "sdxl")
    os.utime(path, (1, 1))
    place.clock.seconds += 1.1
    assert not catalog.find("b").supported
    (place.checkpoints / "a.safetensors").unlink()
    place.clock.seconds += 1.1
    assert names(catalog) == ["b"]
    place.clock.seconds += 1.1
    assert names(catalog) == ["b"]
    assert len(heard) == 3


def test_a_file_that_came_this_moment_is_found_by_name(place: Place) -> None:
    catalog = place.catalog()
    assert names(catalog) == []
    write_model(place.checkpoints / "a.safetensors")
    assert catalog.find("a").name == "a"


def test_headers_are_read_once_until_the_file_or_the_reader_changes(place: Place) -> None:
    for name in "abc":
        write_model(place.checkpoints / f"{name}.safetensors")
    first = place.catalog().checkpoints()
    assert len(place.reader.read) == 3
    assert place.catalog().checkpoints() == first
    assert len(place.reader.read) == 3
    write_model(place.checkpoints / "b.safetensors", author="somebody")
    place.catalog().checkpoints()
    assert place.reader.read[3:] == ["b.safetensors"]
    place.catalog(version="2").checkpoints()
    assert len(place.reader.read) == 7


def test_a_first_look_at_very_many_files_does_not_hold_up_the_page(place: Place) -> None:
    for number in range(40):
        write_model(place.checkpoints / f"{number:02}.safetensors")
    write_model(place.checkpoints / "inferenz-starter.safetensors")
    place.reader.delay = lambda: place.clock.pass_by(0.1)  # ten headers a second
    catalog = place.catalog()
    first = names(catalog)
    assert "inferenz-starter" in first
    assert 5 <= len(first) < 41
    until(catalog, lambda: catalog.unread() == 0)
    assert len(names(catalog)) == 41
    assert len(place.reader.read) == 41
    place.reader.delay = lambda: place.clock.pass_by(5)
    for number in range(40, 45):
        write_model(place.checkpoints / f"{number}.safetensors")
    assert place.catalog().find("44").name == "44"


def test_long_metadata_is_not_carried_around(place: Place) -> None:
    write_model(place.checkpoints / "a.safetensors", recipe="x" * 100_000, author="me")
    assert place.catalog().find("a").metadata == {"author": "me"}


def test_what_cannot_be_used_is_listed_with_the_reason(place: Place) -> None:
    folder = place.checkpoints
    write_model(folder / "xl.safetensors", "sdxl")
    cut = write_model(folder / "cut.safetensors")
    cut.write_bytes(cut.read_bytes()[:-2])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "text.safetensors").write_bytes(b"<html>404 not found</html>")
    (folder / "old.ckpt").write_bytes(b"PK\x03\x04")
    (folder / "quantised.gguf").write_bytes(b"GGUF" + bytes(100))
    catalog = place.catalog()
    problems = {info.name: info.problem for info in catalog.checkpoints() if not info.supported}
    for name, word in {
        "xl": "SDXL", "cut": "truncated", "empty": "empty", "text": "not a safetensors", "old": "pickle",
        "quantised": "damaged header",
    }.items():  # fmt: skip
        assert word in problems[name]
    assert len(problems) == 6


def write_folder(folder: Path) -> None:
    """A folder in diffusers' layout, of one component."""
    write_model(folder / "unet/diffusion_pytorch_model.safetensors")
    (folder / "unet/config.json").write_text("{}")
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))


def test_a_diffusers_folder_is_one_entry_with_the_folders_name(place: Place) -> None:
    write_folder(place.checkpoints / "mine/sd")
    catalog = place.catalog()
    assert names(catalog) == ["mine/sd"]
    for text in ("mine/sd", "sd", "mine/sd [0123456789]", str(place.checkpoints / "mine/sd")):
        info = catalog.find(text)
        assert (info.supported, info.title, info.path) == (
            True, "mine/sd", str(place.checkpoints / "mine/sd/model_index.json")
        )  # fmt: skip
    weights = place.checkpoints / "mine/sd/unet/diffusion_pytorch_model.safetensors"
    assert info.size == weights.stat().st_size
    assert catalog.hash_of(info) is None
    assert place.reader.read == ["model_index.json"]
    weights.unlink()
    catalog.refresh()
    assert "mine/sd" in names(catalog)
    assert "sd is incomplete: unet has no weights" in catalog.find("sd").problem


def test_a_folder_of_a_modular_pipeline_is_one_entry_too(place: Place) -> None:
    write_model(place.checkpoints / "anima/transformer/diffusion_pytorch_model.safetensors")
    (place.checkpoints / "anima/modular_model_index.json").write_text('{"_class_name": "AnimaModularPipeline"}')
    write_folder(place.checkpoints / "both")
    (place.checkpoints / "both/modular_model_index.json").write_text('{"_class_name": "FluxModularPipeline"}')
    catalog = place.catalog()
    assert names(catalog) == ["anima", "both"]
    assert catalog.find("anima").path == str(place.checkpoints / "anima/modular_model_index.json")
    assert catalog.find("both").path == str(place.checkpoints / "both/model_index.json")


def test_a_folder_without_a_pipeline_is_named_as_such(place: Place) -> None:
    write_model(place.checkpoints / "sd/unet/diffusion_pytorch_model.safetensors")
    (place.checkpoints / "sd/model_index.json").write_text("{}")
    assert "names no pipeline" in place.catalog().find("sd").problem


def test_vaes_have_a_list_of_their_own(place: Place) -> None:
    write_model(place.vaes / "mse.safetensors")
    write_model(place.checkpoints / "a.safetensors")
    write_model(place.checkpoints / "a.vae.safetensors")
    catalog = place.catalog()
    assert names(catalog) == ["a"]
    assert [info.name for info in catalog.vaes()] == ["a.vae", "mse"]
    assert catalog.find_vae("mse.safetensors").name == "mse"
    with pytest.raises(CheckpointMissing, match="There is no VAE 'a'"):
        catalog.find_vae("a")


def test_two_files_of_one_name_can_be_told_apart(place: Place, tmp_path: Path) -> None:
    (place.checkpoints / "x").mkdir(parents=True)
    (place.checkpoints / "a.ckpt").write_bytes(b"PK\x03\x04")
    write_model(place.checkpoints / "a.safetensors")
    write_model(tmp_path / "more/a.safetensors", fill=1)
    catalog = place.catalog(tmp_path / "more")
    assert [(info.name, info.supported) for info in catalog.checkpoints()] == [
        ("a", True), ("a (2)", True), ("a (3)", False),
    ]  # fmt: skip
    assert catalog.find("a").path == str(place.checkpoints / "a.safetensors")
    assert catalog.find("a (2)").path == str(tmp_path / "more/a.safetensors")


def test_names_titles_files_and_hashes_find_a_checkpoint(place: Place) -> None:
    path = write_model(place.checkpoints / "anime/Model One.safetensors")
    write_model(place.checkpoints / "other.safetensors", fill=9)
    catalog = place.catalog(hashing=True)
    info = catalog.find("anime/Model One")
    until(catalog, lambda: all(info.sha256 for info in catalog.checkpoints()))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    short = sha256[:10]
    assert catalog.find("other").title.startswith("other.safetensors [")
    for text in (
        "anime/Model One", "anime\\Model One", "Model One", "model one", "Model One.safetensors", str(path), short,
        short.upper(), sha256, f"anime/Model One.safetensors [{short}]", "Model One.safetensors [0000000000]",
        f"renamed since [{short}]", "  Model One ",
    ):  # fmt: skip
        assert catalog.find(text).path == info.path, text


def test_an_unknown_name_is_answered_with_near_ones(place: Place) -> None:
    catalog = place.catalog()
    with pytest.raises(CheckpointMissing, match="none at all"):
        catalog.find("dreamshaper")
    for name in ("dreamshaper_8", "dreamshaper_7", "realistic", "v1-5-pruned", "e", "f", "g"):
        write_model(place.checkpoints / f"{name}.safetensors")
    with pytest.raises(CheckpointMissing, match="Did you mean dreamshaper_8 or dreamshaper_7") as caught:
        catalog.find("Dreamshaper 8")
    assert "realistic" not in str(caught.value)
    with pytest.raises(CheckpointMissing, match="and 2 more"):
        catalog.find("0123456789")
    for text in ("", "x" * 10_000, "a\0b", "../../etc/passwd"):
        with pytest.raises(CheckpointMissing) as caught:
            catalog.find(text)
        assert len(str(caught.value)) < 400


def test_hashes_are_remembered_and_follow_the_file(place: Place) -> None:
    path = write_model(place.checkpoints / "a.safetensors")
    catalog = place.catalog(hashing=False)
    info = catalog.find("a")
    assert catalog.hash_of(info) is None  # asked for, so it is computed although hashing is off
    until(catalog, lambda: catalog.hash_of(info))
    assert catalog.hash_of(info) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert place.catalog().find("a").short_hash == hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    write_model(path, fill=7)
    os.utime(path, (5, 5))
    assert place.catalog().find("a").sha256 is None


def test_hashing_waits_while_paused_and_close_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(20 << 20))
    stat = path.stat()
    done = threading.Event()
    hasher = Hasher(lambda *_: done.set())
    hasher.pause(True)
    job = HashJob("k", path, stat.st_size, stat.st_mtime_ns)
    hasher.request(job)
    assert not done.wait(0.05)
    hasher.pause(False)
    assert done.wait(20)
    hasher.pause(True)
    hasher.request(HashJob("other", path, stat.st_size, stat.st_mtime_ns))
    hasher.close()


def test_what_a_running_job_asks_for_is_hashed_though_hashing_is_paused(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(20 << 20))
    stat = path.stat()
    heard: list[str] = []
    wanted, rest = threading.Event(), threading.Event()

    def on_hash(job: HashJob, _: str) -> None:
        heard.append(job.key)
        (wanted if job.key == "wanted" else rest).set()

    hasher = Hasher(on_hash)
    jobs = {name: HashJob(name, path, stat.st_size, stat.st_mtime_ns) for name in ("idle", "wanted", "later")}
    hasher.request(jobs["idle"])
    hasher.pause(True)  # in the middle of it, or before, or after
    hasher.request(jobs["later"])
    hasher.request(jobs["wanted"], urgent=True)
    assert wanted.wait(20)
    assert "later" not in heard
    hasher.request(jobs["later"], urgent=True)
    assert rest.wait(20)
    hasher.pause(False)
    hasher.close()


def test_a_file_that_changed_is_not_given_the_old_ones_hash(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    stat = path.stat()
    heard: list[HashJob] = []
    hasher = Hasher(lambda job, _: heard.append(job))
    hasher.request(HashJob("changed", path, stat.st_size + 1, stat.st_mtime_ns))
    hasher.request(HashJob("gone", tmp_path / "b", 1, 1))
    last = threading.Event()
    other = Hasher(lambda *_: last.set())
    other.request(HashJob("k", path, stat.st_size, stat.st_mtime_ns))
    assert last.wait(10)
    other.close()
    hasher.close()
    assert heard == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_links_loops_and_broken_links(place: Place, tmp_path: Path) -> None:
    write_model(tmp_path / "elsewhere/linked.safetensors")
    place.checkpoints.mkdir(parents=True)
    (place.checkpoints / "disk").symlink_to(tmp_path / "elsewhere")
    (place.checkpoints / "loop").symlink_to(place.checkpoints)
    (place.checkpoints / "broken.safetensors").symlink_to(tmp_path / "nowhere")
    (place.checkpoints / "file.safetensors").symlink_to(tmp_path / "elsewhere/linked.safetensors")
    assert names(place.catalog()) == ["disk/linked", "file"]


def test_names_with_accents_apart_from_their_letters(place: Place) -> None:
    write_model(place.checkpoints / "cafe\u0301.safetensors")  # as macOS may name it
    catalog = place.catalog()
    assert catalog.find("caf\u00e9").path == catalog.find("Cafe\u0301.safetensors").path


def test_folders_of_a_drive_that_numbers_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name / f"{name}.safetensors")
    plain = Path.stat

    def unnumbered(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = plain(path, follow_symlinks=follow_symlinks)
        return os.stat_result((found.st_mode, 0, *found[2:]))

    monkeypatch.setattr(Path, "stat", unnumbered)
    twice = [tmp_path / "a", tmp_path / "b", tmp_path / "a"]
    assert [name for name, _ in model_files(twice)] == ["a", "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not text")
def test_a_name_that_is_no_text_is_left_out(place: Place) -> None:
    write_model(place.checkpoints / "a.safetensors")
    with open(os.fsencode(place.checkpoints) + b"/\xff.safetensors", "wb") as file:
        file.write(b"x")
    assert names(place.catalog()) == ["a"]


def test_many_threads_may_ask(place: Place) -> None:
    for number in range(20):
        write_model(place.checkpoints / f"{number:02}.safetensors", fill=number)
    catalog = place.catalog(hashing=True)
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(len(catalog.checkpoints()))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [20] * 12


def test_the_installed_families_recognise_the_starter(tmp_path: Path) -> None:
    state = StateDatabase(tmp_path / "state.sqlite3")
    catalog = Catalog((Path(__file__).parents[2] / "models",), (), (), state, hashing=lambda: False)
    starter = catalog.find("inferenz-starter")
    assert (starter.family, starter.supported, starter.problem) == ("sd1", True, "")
    assert starter.defaults.width == 128
    assert installed_readers().version == installed_readers().version
    catalog.close()
    again = Catalog((Path(__file__).parents[2] / "models",), (), (), state, hashing=lambda: False)
    assert again.find("inferenz-starter") == starter
    again.close()
    state.close()


def test_a_hash_that_comes_while_the_folders_are_read_is_seen_at_the_next_look(place: Place) -> None:
    path = write_model(place.checkpoints / "a.safetensors")
    catalog: Any = place.catalog()
    catalog.refresh()
    read, stat = catalog._read, path.stat()

    def slowly(until: float | None) -> Any:
        listing = read(until)
        catalog._hashed(HashJob(str(path), path, stat.st_size, stat.st_mtime_ns), "ab" * 32)
        return listing

    catalog._read = slowly
    catalog.refresh()
    catalog._read = read
    assert catalog.find("a").sha256 == "ab" * 32
