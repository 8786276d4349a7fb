"""The tokenizer against transformers' own, built from the same bundled data."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from modules.core.errors import CheckpointMissing
from modules.prompting.clip import ClipTokenizer, merges, vocabulary

ORIGINAL_VOCABULARY = "3f0c4f7d2086b61b38487075278ea9ed04edb53a03cbb045b86c27190fa8fb69"  # SHA-256 of vocab.json

TEXTS = (
    "", " ", "\n\t ", "a photo of a cat", "A Photo  of\n\na CAT ", "naïve café Ångström", "cafe\u0301", "ÄÖÜß ẞ",
    "猫と犬、東京タワー", "Привет, мир!", "مرحبا", "👩‍👩‍👧‍👦 🇩🇪 ☃️ 👍🏽", "<|endoftext|>",
    "a<|endoftext|>b", " <|startoftext|> <|ENDOFTEXT|>",
    "<|endoftext|><|endoftext|> x", "it's we'll they've I'M you'd can'T", "1234 3.14 ½ ²",
    "!!!???...,,, ;:'\"", "\x00\x07nul\x00",
    "\u00a0\u2003wide\u3000spaces\u200b", "\ufffd\ufeff", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "İstanbul ıI", "ﬁ ﬂ ŉ", "word " * 200, "x" * 500,
    "masterpiece, best quality, 1girl, (solo:1.2), [bad], __wild__, {a|b}, <lora:x:1>", "a</w> b", "Ġ ġ Ċ", "ς Σ ΌΣΟΣ",
)  # fmt: skip


@pytest.fixture(scope="module")
def ours() -> ClipTokenizer:
    return ClipTokenizer.load()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("clip")
    pairs = merges()
    (folder / "vocab.json").write_text(json.dumps(dict(vocabulary(pairs))), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in pairs) + "\n", encoding="utf-8"
    )
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=77)


def check(ours: ClipTokenizer, theirs: Any, text: str) -> None:
    assert list(ours.ids(text)) == theirs(text, add_special_tokens=False, truncation=False)["input_ids"]


def test_vocabulary_is_the_original() -> None:
    written = json.dumps(dict(vocabulary(merges())), ensure_ascii=False)
    compact = json.dumps(dict(vocabulary(merges())), ensure_ascii=False, separators=(",", ":"))
    found = {hashlib.sha256(text.encode("utf-8")).hexdigest() for text in (written, compact)}
    assert ORIGINAL_VOCABULARY in found


@pytest.mark.parametrize("text", TEXTS)
def test_equals_transformers(ours: ClipTokenizer, theirs: Any, text: str) -> None:
    check(ours, theirs, text)


@settings(max_examples=1_000, deadline=None)
@given(text=st.text(max_size=80))
def test_equals_transformers_on_any_text(ours: ClipTokenizer, theirs: Any, text: str) -> None:
    check(ours, theirs, text)


@settings(max_examples=500, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["<|endoftext|>", "<|startoftext|>", "<|", " ", "A", "é", "'s", "9", "👍", "\n", ","])
    )
)
def test_equals_transformers_around_special_words(ours: ClipTokenizer, theirs: Any, parts: list[str]) -> None:
    check(ours, theirs, "".join(parts))


@pytest.mark.parametrize("text", ["", "a red apple on a blue background", "x " * 75, "é👍", "a<|endoftext|>b"])
def test_a_plain_chunk_equals_transformers_padding(ours: ClipTokenizer, theirs: Any, text: str) -> None:
    (chunk,) = ours.chunks(text)
    assert list(chunk.ids) == theirs(text, padding="max_length", max_length=77, truncation=True)["input_ids"]
    assert chunk.weights == (1.0,) * 77


def test_weights_and_tokens(ours: ClipTokenizer) -> None:
    (chunk,) = ours.chunks("a (red:1.5) [apple] CAFÉ")
    assert chunk.tokens == ("a", "red", "apple", "café")
    assert chunk.weights[:6] == pytest.approx((1.0, 1.0, 1.5, 1 / 1.1, 1.0, 1.0))
    assert len(chunk.ids) == len(chunk.weights) == 77
    assert chunk.ids[0] == ours.begin
    assert set(chunk.ids[5:]) == {ours.end}


def test_padding_of_openclip() -> None:
    (chunk,) = ClipTokenizer.load(padding=0).chunks("apple")
    assert chunk.ids[2:] == (49407, *(0,) * 74)


def test_readable_tokens(ours: ClipTokenizer) -> None:
    assert ours.tokens("Photorealistic apples") == ("photo", "realistic", "apples")
    assert ours.tokens("<|endoftext|>") == ("<|endoftext|>",)
    assert all(part.isprintable() for part in ours.tokens("👩‍👩‍👧‍👦 猫"))


@pytest.mark.parametrize(
    ("text", "display"),
    [
        ("", (0, 75)),
        ("a red apple", (3, 75)),
        ("a (red:1.3) apple", (3, 75)),
        ("x " * 75, (75, 75)),
        ("x " * 80, (80, 150)),
        ("a BREAK b", (76, 150)),
        ("a BREAK", (75, 75)),
        ("BREAK", (75, 75)),
        ("x " * 60 + ", " + "y " * 20, (95, 150)),  # the comma sends 20 tokens on, and the room left behind counts
    ],
)
def test_count_display(ours: ClipTokenizer, text: str, display: tuple[int, int]) -> None:
    assert ours.count_display(text) == display
    assert ours.count(text) == display[0]


@settings(max_examples=500, deadline=None)
@given(text=st.text(st.characters(), max_size=200))
def test_chunks_of_any_text(ours: ClipTokenizer, text: str) -> None:
    chunks = ours.chunks(text)
    assert chunks
    assert all(len(chunk.ids) == len(chunk.weights) == 77 for chunk in chunks)
    assert all(chunk.ids[0] == ours.begin and chunk.ids[len(chunk.tokens) + 1] == ours.end for chunk in chunks)


def test_half_characters_are_read_as_unknown(ours: ClipTokenizer) -> None:
    assert ours.ids("a\ud83d") == ours.ids("a\ufffd")


def test_threads(ours: ClipTokenizer) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ours.chunks, TEXTS)) == [ours.chunks(text) for text in TEXTS]


def test_a_folder_of_its_own(ours: ClipTokenizer, tmp_path: Path) -> None:
    pairs = merges()
    (tmp_path / "vocab.json").write_text(json.dumps(dict(vocabulary(pairs))), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = ClipTokenizer.from_folder(tmp_path, padding=0)
    assert read.padding == 0
    assert [read.ids(text) for text in TEXTS] == [ours.ids(text) for text in TEXTS]
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(CheckpointMissing, match=r"no vocabulary of CLIP\. Accepted: tokenizer\.json or vocab"):
        ClipTokenizer.from_folder(tmp_path)
