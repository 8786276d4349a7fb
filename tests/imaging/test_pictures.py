"""What picture files of others say, small versions of them, and files that are none."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from PIL import Image

from modules.core.errors import StorageError
from modules.imaging.encode import media_type
from modules.imaging.pictures import picture_facts, thumbnail
from modules.imaging.png import SIGNATURE, chunk


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
@pytest.mark.parametrize("codec", ["utf-16-be", "utf-16-le"])
def test_the_user_comment_of_exif_is_read(tmp_path: Path, suffix: str, codec: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a cat 猫\nSteps: 20".encode(codec)
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (40, 30), "red").save(path, exif=exif)
    facts = picture_facts(path)
    assert (facts.width, facts.height, facts.texts) == (40, 30, {"parameters": "a cat 猫\nSteps: 20"})


def test_a_picture_without_text(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    assert picture_facts(tmp_path / "a.jpg").texts == {}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "I;16"])
def test_thumbnails_keep_the_shape(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.new(mode, (400, 200)).save(path)
    data = thumbnail(path, 100)
    assert media_type(data) in {"image/webp", "image/jpeg"}
    with Image.open(io.BytesIO(data)) as small:
        assert small.size == (100, 50)
    assert thumbnail(path.read_bytes(), 100) == data


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for data in (b"", b"hello", SIGNATURE, b"\xff\xd8\xff\xe0", b"RIFF\x10\0\0\0WEBPVP8 "):
        path.write_bytes(data)
        with pytest.raises(StorageError, match=r"a\.png"):
            picture_facts(path)
        with pytest.raises(StorageError, match=r"a\.png"):
            thumbnail(path)
    with pytest.raises(StorageError, match="cannot be read"):
        picture_facts(tmp_path / "none.png")


@pytest.mark.parametrize("side", [9_500, 30_000])
def test_decompression_bombs_are_refused_unopened(tmp_path: Path, side: int) -> None:
    header = side.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b""))
    with pytest.raises(StorageError, match="not opened"):
        picture_facts(path)
    with pytest.raises(StorageError, match="not opened"):
        thumbnail(path)


def test_damaged_metadata_and_other_formats_are_told_as_such(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112], turned[0x010E], turned[0x011A] = 6, "description", 72.0
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30)).save(path, exif=turned)
    data = bytearray(path.read_bytes())
    place = data.index(b"MM\0*") + 10
    for kind in range(1, 13):  # of the first entry: what Pillow then fails with is of every kind
        data[place + 2 : place + 4] = kind.to_bytes(2, "big")
        path.write_bytes(data)
        with contextlib.suppress(StorageError):
            thumbnail(path)
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(path, format="BMP")  # of dozens of readers that Pillow would try
    for read in (picture_facts, thumbnail):
        with pytest.raises(StorageError, match="not a picture that can be read"):
            read(path)
