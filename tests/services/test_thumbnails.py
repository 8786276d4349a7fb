"""The thumbnail cache stays within its bound and never stands in the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from modules.core.errors import StorageError
from modules.imaging.encode import encode_png
from modules.services.storage import Files
from modules.services.thumbnails import Thumbnails


def noise(path: Path, seed: int) -> tuple[Path, int, int]:
    path.write_bytes(encode_png(np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8)))
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def test_the_oldest_go_when_the_cache_is_full(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path / "thumbs", Files(), side=64, limit=10_000)
    pictures = [noise(tmp_path / f"{n}.png", n) for n in range(12)]
    for picture in pictures:
        thumbnails.request(*picture)
    thumbnails.drain()
    kept = list((tmp_path / "thumbs").rglob("*.thumb"))
    assert 1 <= len(kept) < 12
    assert sum(path.stat().st_size for path in kept) <= 10_000
    assert all(thumbnails.get(*picture) for picture in pictures)
    thumbnails.close()


def test_a_cache_that_cannot_be_written_still_shows_pictures(tmp_path: Path) -> None:
    class Full(Files):
        def put(self, path: Path, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    thumbnails = Thumbnails(tmp_path / "thumbs", Full())
    assert thumbnails.get(*noise(tmp_path / "a.png", 1))
    thumbnails.close()


def test_the_cache_stays_within_its_bound_while_old_pictures_are_looked_at(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path / "thumbs", Files(), side=64, limit=10_000)
    for number in range(12):
        thumbnails.get(*noise(tmp_path / f"{number}.png", number))
    assert sum(path.stat().st_size for path in (tmp_path / "thumbs").rglob("*.thumb")) <= 10_000
    thumbnails.close()


@pytest.mark.parametrize("left", [b"", b"\0" * 500])
def test_what_a_power_cut_left_is_made_again(tmp_path: Path, left: bytes) -> None:
    thumbnails = Thumbnails(tmp_path / "thumbs", Files(), side=64)
    picture = noise(tmp_path / "a.png", 1)
    whole = thumbnails.get(*picture)
    (kept,) = (tmp_path / "thumbs").rglob("*.thumb")
    kept.write_bytes(left)
    assert thumbnails.get(*picture) == whole
    assert kept.read_bytes() == whole
    thumbnails.close()


def test_a_cache_waits_for_no_disk(tmp_path: Path) -> None:
    class Waiting(Files):
        def write(self, path: Path, data: bytes) -> None:
            raise AssertionError("synced")

        def sync_folder(self, folder: Path) -> None:
            raise AssertionError("synced")

    thumbnails = Thumbnails(tmp_path / "thumbs", Waiting())
    assert thumbnails.get(*noise(tmp_path / "a.png", 1))
    thumbnails.close()


def test_broken_pictures_end_in_an_error_for_who_looks_and_nothing_else(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path / "thumbs", Files())
    (tmp_path / "a.png").write_bytes(b"broken")
    thumbnails.request(tmp_path / "a.png", 1, 6)
    thumbnails.request(*noise(tmp_path / "b.png", 2))
    thumbnails.drain()
    assert len(list((tmp_path / "thumbs").rglob("*.thumb"))) == 1
    with pytest.raises(StorageError, match=r"a\.png"):
        thumbnails.get(tmp_path / "a.png", 1, 6)
    thumbnails.close()
