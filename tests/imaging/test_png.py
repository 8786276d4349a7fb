"""PNG text chunks against Pillow's own, and against broken files."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.core.errors import StorageError
from modules.imaging.encode import encode_png
from modules.imaging.png import MAX_TEXT_BYTES, chunk, png_with_text, read_png, read_png_text

PNG = encode_png(np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3))


def pillow_png(texts: dict[str, str], zip_texts: dict[str, str] | None = None) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    for key, text in (zip_texts or {}).items():
        info.add_itxt(key, text, zip=True)
    out = io.BytesIO()
    Image.new("RGB", (3, 2)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


@pytest.mark.parametrize("text", ["a cat\nSteps: 20", "schön, ñ", "猫 и кот 🐈", ""])
def test_chunks_are_the_bytes_that_pillow_writes(text: str) -> None:
    ours = png_with_text(PNG, {"parameters": text})
    theirs = pillow_png({"parameters": text})
    kind = b"tEXt" if text.isascii() or "schön" in text else b"iTXt"
    start = theirs.index(kind) - 4
    length = int.from_bytes(theirs[start : start + 4], "big") + 12
    assert theirs[start : start + length] in ours


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_text_there_and_back_by_our_reader_and_pillows(text: str) -> None:
    png = png_with_text(PNG, {"parameters": text, "inferenz": "{}"})
    assert read_png_text(png) == {"parameters": text, "inferenz": "{}"}
    with Image.open(io.BytesIO(png)) as image:
        assert image.info["parameters"] == text
        assert image.tobytes() == np.arange(8 * 6 * 3, dtype=np.uint8).tobytes()


def test_what_png_cannot_hold_is_replaced() -> None:
    assert read_png_text(png_with_text(PNG, {"a": "x\0y\ud800z"})) == {"a": "x\ufffdy\ufffdz"}
    with pytest.raises(ValueError, match="keyword"):
        png_with_text(PNG, {"": "x"})
    with pytest.raises(ValueError, match="not a PNG"):
        png_with_text(b"GIF89a", {"a": "x"})


def test_deflated_and_late_text_is_read() -> None:
    late = chunk(b"zTXt", b"late\0\0" + zlib.compress("ä".encode("latin-1")))
    png = pillow_png({"a": "1"}, {"b": "ж" * 5000})
    png = png[:-12] + late + png[-12:]
    assert read_png_text(png) == {"a": "1", "b": "ж" * 5000, "late": "ä"}
    assert (read_png(png).width, read_png(png).height) == (3, 2)


def test_every_truncation_is_told(tmp_path: Path) -> None:
    png = png_with_text(PNG, {"parameters": "a cat"})
    path = tmp_path / "cut.png"
    for length in range(len(png)):
        path.write_bytes(png[:length])
        with pytest.raises(StorageError, match=r"cut\.png"):
            read_png(path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (chunk(b"tEXt", b"no separator"), "not readable"),
        (chunk(b"iTXt", b"key\0\1"), "not readable"),
        (chunk(b"iTXt", b"key\0\1\0en\0key\0not deflated"), "unpacked"),
        (chunk(b"zTXt", b"key\0\0not deflated"), "unpacked"),
        (chunk(b"tEXt", b"key\0text")[:-1] + b"!", "checksum"),
        (chunk(b"tEXt", b"key\0" + b"x" * (MAX_TEXT_BYTES + 1)), "more than 16 MiB"),
        (chunk(b"zTXt", b"key\0\0" + zlib.compress(b"x" * (MAX_TEXT_BYTES + 1))), "more than 16 MiB"),
        (b"\xff\xff\xff\xfftEXt", "more than 16 MiB"),
        (b"\xff\xff\xff\xffIDAT", "truncated"),
    ],
    ids=str,
)
def test_broken_chunks_are_told(data: bytes, problem: str) -> None:
    with pytest.raises(StorageError, match=problem):
        read_png(PNG[:33] + data + PNG[33:])


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        read_png(tmp_path / "none.png")
    with pytest.raises(StorageError, match="not a PNG"):
        read_png(b"GIF89a")
