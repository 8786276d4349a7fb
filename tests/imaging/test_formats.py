"""Pictures and their texts in every file format, there and back, and against Pillow's own reading."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from modules.imaging.encode import encode_png, media_type
from modules.imaging.formats import KINDS, MEDIA_TYPES, Kind, SaveFormat, finished, kinds, recompressed, xmp_texts
from modules.imaging.pictures import picture_facts, thumbnail

GRADIENT = np.tile(np.linspace(0, 255, 48, dtype=np.uint8)[None, :, None], (32, 1, 3))
PNG = encode_png(np.ascontiguousarray(GRADIENT))
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)


def test_this_pillow_writes_every_format() -> None:
    assert kinds() == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_and_its_texts_in_every_format(kind: Kind, tmp_path: Path) -> None:
    texts = {
        "parameters": 'a "cat" 猫 🐈\nNegative prompt: <b>&\nSteps: 20, Seed: 1',
        "inferenz": '{"a":"<&\\u732b\'"}',
    }
    data, made = finished(PNG, texts, SaveFormat(kind=kind, quality=90))
    assert made == kind
    path = tmp_path / f"a.{kind}"
    path.write_bytes(data)
    for source in (path, data):
        facts = picture_facts(source)
        assert (facts.width, facts.height, facts.texts) == (48, 32, texts)
    assert media_type(data) == MEDIA_TYPES[f".{kind}"]
    with Image.open(io.BytesIO(data)) as image:
        assert np.abs(np.asarray(image).astype(int) - GRADIENT).mean() < (0.01 if kind == "png" else 3)
        if kind != "png":  # as AUTOMATIC1111's own reader looks for it
            comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
            assert comment == b"UNICODE\0" + texts["parameters"].encode("utf-16-be")
    assert media_type(thumbnail(path, 16)).startswith("image/")
    with (
        Image.open(io.BytesIO(recompressed(PNG, SaveFormat(kind=kind, quality=90)))) as alone,
        Image.open(path) as image,
    ):
        assert np.array_equal(np.asarray(alone), np.asarray(image))


@settings(max_examples=25)
@given(parameters=TEXT.map(str.strip), own=TEXT)
def test_any_texts_come_back_from_exif_and_xmp(parameters: str, own: str) -> None:
    parameters += "\nSteps: 20, Seed: 1, Size: " + "1" * len(parameters)
    data, _ = finished(PNG, {"parameters": parameters, "own": own}, SaveFormat(kind="jpg"))
    read = picture_facts(data).texts
    assert read["parameters"] == parameters
    assert read["own"] == own


def test_quality_is_what_it_says() -> None:
    noise = encode_png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind in ("jpg", "webp", "avif"):
        small, large = (len(finished(noise, {}, SaveFormat(kind=kind, quality=q))[0]) for q in (20, 95))
        assert small < large / 2


def test_texts_too_long_for_a_jpeg_keep_the_picture_a_png() -> None:
    texts = {"parameters": "x" * 40_000}
    data, kind = finished(PNG, texts, SaveFormat(kind="jpg"))
    assert kind == "png"
    assert picture_facts(data).texts == texts
    data, kind = finished(PNG, texts, SaveFormat(kind="webp"))
    assert kind == "webp"
    assert picture_facts(data).texts == texts


def test_other_peoples_xmp_is_not_ours() -> None:
    assert xmp_texts(b'<x:xmpmeta><inferenz:text name="a">b</inferenz:text></x:xmpmeta>') == {}
    assert xmp_texts(b"\xff\xfe\x00") == {}


def test_a_damaged_header_of_each_format_is_told() -> None:
    from modules.core.errors import StorageError

    for kind in ("jpg", "webp", "avif"):
        data, _ = finished(PNG, {"parameters": "a"}, SaveFormat(kind=kind))
        with pytest.raises(StorageError):
            picture_facts(data[:20])
