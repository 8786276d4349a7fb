"""Text hidden in pixels is found, and nothing is found where none is."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.core.errors import StorageError
from modules.imaging.encode import encoded
from modules.imaging.stealth import hidden_texts
from tests.imaging.hiding import hide

CHANCE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
PLAIN = Image.fromarray(CHANCE)
CLEAR = PLAIN.convert("RGBA")
TEXT = "a cat 猫\nSteps: 20, Sampler: Euler, Seed: 1"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("where", ["alpha", "rgb"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_hidden_text_is_found(where: str, packed: bool, kind: str) -> None:
    image = hide(CLEAR if where == "alpha" else PLAIN, TEXT, where=where, packed=packed)
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert hidden_texts(encoded(image, kind, **options)) == {"parameters": TEXT}


def test_novelais_chunks_hide_together() -> None:
    chunks = {"Software": "NovelAI", "Comment": '{"steps": 28}', "Generation time": 3}
    data = encoded(hide(CLEAR, json.dumps(chunks), packed=True), "PNG")
    assert hidden_texts(data) == {"Software": "NovelAI", "Comment": '{"steps": 28}'}


@pytest.mark.parametrize("image", [PLAIN, CLEAR, PLAIN.convert("L"), PLAIN.convert("P"), Image.new("RGBA", (1, 1))])
def test_most_pictures_hide_nothing(image: Image.Image) -> None:
    assert hidden_texts(encoded(image, "PNG")) == {}
    assert hidden_texts(encoded(image.convert("RGB"), "JPEG")) == {}


def test_damage_is_told() -> None:
    def bits(message: str) -> bytes:
        pixels = np.full((40, 50, 4), 255, dtype=np.uint8)
        flat = pixels[:, :, 3].T.copy().reshape(-1)
        flat[: len(message)] = [254 + int(bit) for bit in message]
        pixels[:, :, 3] = flat.reshape(50, 40).T
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        return out.getvalue()

    def signature(name: str) -> str:
        return "".join(f"{byte:08b}" for byte in name.encode())

    with pytest.raises(StorageError, match="longer than the picture"):
        hidden_texts(bits(signature("stealth_pnginfo") + "1" * 32))
    with pytest.raises(StorageError, match="damaged"):
        hidden_texts(bits(signature("stealth_pngcomp") + f"{80:032b}" + "10" * 40))


def test_a_bomb_of_hidden_text_is_not_unpacked() -> None:
    text = "x" * (17 << 20)
    image = Image.fromarray(np.zeros((400, 400, 4), dtype=np.uint8))
    with pytest.raises(StorageError, match="16 MiB"):
        hidden_texts(encoded(hide(image, text, packed=True), "PNG"))
