"""Our PNG encoder against Pillow's decoder; previews."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from modules.imaging.encode import encode_jpeg, encode_png, media_type


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (8, 2048), (513, 67)])
def test_a_png_decodes_to_the_same_pixels(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    png = encode_png(pixels)
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), pixels)
    assert encode_png(pixels.tobytes(), (shape[1], shape[0])) == png
    assert encode_png(np.asfortranarray(pixels)) == png


def test_flat_pictures_are_small() -> None:
    assert len(encode_png(np.full((512, 512, 3), 200, dtype=np.uint8))) < 20_000


def test_a_jpeg_is_close_and_shrinks() -> None:
    pixels = np.zeros((100, 200, 3), dtype=np.uint8)
    pixels[:, 100:] = 255
    with Image.open(io.BytesIO(encode_jpeg(pixels))) as image:
        assert image.size == (200, 100)
        assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 3
    with Image.open(io.BytesIO(encode_jpeg(pixels, longest=50))) as image:
        assert image.size == (50, 25)


def test_media_types() -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    assert media_type(encode_png(pixels)) == "image/png"
    assert media_type(encode_jpeg(pixels)) == "image/jpeg"
    assert media_type(b"hello") == "application/octet-stream"


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_png(np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match="size"):
        encode_png(b"123")
