"""A stripped copy has the same pixels and nothing of what was said beside or inside them."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from modules.core.errors import StorageError
from modules.imaging.encode import encode_png, encoded
from modules.imaging.formats import KINDS, Kind, SaveFormat, finished
from modules.imaging.pictures import picture_facts
from modules.imaging.png import chunk, png_with_text
from modules.imaging.stealth import hidden_texts
from modules.imaging.strip import shared_name, stripped
from tests.imaging.hiding import hide

CHANCE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
PNG = encode_png(CHANCE)
TEXTS = {"parameters": "secretprompt 猫", "inferenz": '{"plan": "secretprompt"}'}


def pixels(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.mode, np.asarray(image).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_stay_and_the_words_go(kind: Kind) -> None:
    data, _ = finished(PNG, TEXTS, SaveFormat(kind=kind))
    clean = stripped(data)
    assert pixels(clean) == pixels(data)
    assert picture_facts(clean).texts == {}
    words = (b"secretprompt", "secretprompt".encode("utf-16-be" if kind != "png" else "utf-8"))
    assert all(word in data for word in words)
    assert not any(word in clean for word in words)
    with Image.open(io.BytesIO(clean)) as image:
        assert not image.getexif()
        assert not {"exif", "xmp"} & image.info.keys()
    assert stripped(clean) == clean


@pytest.mark.parametrize("where", ["alpha", "rgb"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_hidden_text_goes_from_the_pixels(where: str, kind: str) -> None:
    image = Image.fromarray(CHANCE).convert("RGBA" if where == "alpha" else "RGB")
    told = hide(image, "secret " * 8, where=where)
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    clean = stripped(encoded(told, kind, **options))
    assert hidden_texts(clean) == {}
    with Image.open(io.BytesIO(clean)) as found:
        got = np.asarray(found.convert(image.mode)).astype(int)
    assert np.abs(got - np.asarray(told)).max() <= 1
    if where == "alpha":
        assert np.array_equal(got[:, :, :3], CHANCE)
        assert (got[:, :, 3] == 255).all()


def test_lowest_bits_of_an_opaque_picture_are_nobodys_message() -> None:
    image = np.dstack([CHANCE, np.random.default_rng(1).integers(254, 256, CHANCE.shape[:2], dtype=np.uint8)])
    clean = stripped(encoded(Image.fromarray(image), "PNG"))
    with Image.open(io.BytesIO(clean)) as found:
        assert np.array_equal(np.asarray(found), np.dstack([CHANCE, np.full(CHANCE.shape[:2], 255, np.uint8)]))


def test_half_transparent_pictures_stay_so() -> None:
    image = np.dstack([CHANCE, np.random.default_rng(1).integers(0, 256, CHANCE.shape[:2], dtype=np.uint8)])
    data = encoded(Image.fromarray(image), "PNG")
    assert pixels(stripped(data)) == pixels(data)


def test_everything_a_png_can_say_goes_and_what_it_looks_like_stays() -> None:
    told = (b"zTXt", b"iTXt", b"eXIf", b"tIME", b"caBX", b"prVt")
    extra = b"".join(chunk(kind, b"x\0\0secret") for kind in told) + chunk(b"gAMA", (45455).to_bytes(4, "big"))
    data = png_with_text(PNG[:33] + extra + PNG[33:], TEXTS) + b"secret behind the end"
    clean = stripped(data)
    assert b"secret" not in clean
    assert not any(kind in clean for kind in told)
    assert clean == PNG[:33] + chunk(b"gAMA", (45455).to_bytes(4, "big")) + PNG[33:]


def test_colours_and_turns_of_a_jpeg_stay() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "secret"
    data = encoded(Image.fromarray(CHANCE), "JPEG", exif=exif, icc_profile=profile, comment=b"secret") + b"secret"
    clean = stripped(data)
    assert b"secret" not in clean
    assert pixels(clean) == pixels(data)
    with Image.open(io.BytesIO(clean)) as image:
        assert image.info["icc_profile"] == profile
        assert dict(image.getexif()) == {0x0112: 6}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_told_or_stripped_and_nothing_else(kind: Kind) -> None:
    data, _ = finished(PNG, TEXTS, SaveFormat(kind=kind))
    chance = np.random.default_rng(2)
    for length in chance.integers(0, len(data), 60):
        with suppress(StorageError):
            stripped(data[:length])
    for _ in range(60):
        broken = bytearray(data)
        for place in chance.integers(0, min(400, len(data)), 4):
            broken[place] = chance.integers(0, 256)
        with suppress(StorageError):
            stripped(bytes(broken))


def test_names_of_copies_do_not_tell_the_seed() -> None:
    assert shared_name("00012-1234567.png") == "00012-shared.png"
    assert shared_name("my-cat.2.webp") == "my-cat.2-shared.webp"
