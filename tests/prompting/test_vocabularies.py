"""T5's and Qwen's tokenizers: against SentencePiece and tiktoken (recorded) and against transformers' own."""

from __future__ import annotations

import gzip
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2Tokenizer
from transformers import T5Tokenizer as TheirT5

from modules.core.errors import CheckpointMissing, CorruptCheckpoint
from modules.prompting.folders import folder_of
from modules.prompting.qwen import (
    QWEN_IMAGE,
    SPECIAL,
    SPECIAL_QWEN3,
    Z_IMAGE,
    QwenTokenizer,
    merges,
    vocabulary,
)
from modules.prompting.sentencepiece import read_pieces
from modules.prompting.t5 import SENTINELS, T5Tokenizer, packed_pieces
from tests.prompting.texts import TEXTS

# SHA-256 of T5's spiece.model as its publishers list it, the same for all sizes of T5 and T5 1.1
ORIGINAL_T5 = "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86"
RECORDED: dict[str, dict[str, list[int]]] = json.loads(
    Path(__file__).with_name("recorded_tokens.json").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def t5() -> T5Tokenizer:
    return T5Tokenizer.load()


@pytest.fixture(scope="module")
def qwen() -> QwenTokenizer:
    return QwenTokenizer.load()


@pytest.fixture(scope="module")
def their_t5() -> Any:
    model = read_pieces(gzip.decompress(packed_pieces()))
    vocab = [*model.pieces, *((text, 0.0) for text in SENTINELS)]
    return TheirT5(vocab=vocab, _spm_precompiled_charsmap=model.table)


@pytest.fixture(scope="module")
def their_qwen() -> Any:
    pairs = merges()
    numbers = vocabulary(pairs)
    tokenizer = Qwen2Tokenizer(vocab=numbers, merges=list(pairs))
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return tokenizer


def test_the_vocabulary_of_t5_is_the_original() -> None:
    assert hashlib.sha256(gzip.decompress(packed_pieces())).hexdigest() == ORIGINAL_T5


def test_the_vocabulary_of_qwen_is_complete(qwen: QwenTokenizer) -> None:
    assert len(vocabulary(merges())) == 151_643
    assert qwen.ids("<|endoftext|><|im_start|><|im_end|><|file_sep|>") == (151643, 151644, 151645, 151664)
    assert qwen.ids("<think>") != (151667,)
    assert QwenTokenizer.load(SPECIAL_QWEN3).ids("<think></think>") == (151667, 151668)


@pytest.mark.parametrize("text", TEXTS)
def test_equal_sentencepiece_and_tiktoken(t5: T5Tokenizer, qwen: QwenTokenizer, text: str) -> None:
    assert list(t5.ids(text)) == RECORDED[text]["t5"]
    assert list(qwen.ids(text)) == RECORDED[text]["qwen"]


def test_published_numbers(t5: T5Tokenizer, qwen: QwenTokenizer) -> None:
    """The sentence of T5's documentation in transformers, and the one that everybody tries first."""
    reading = t5.read("translate English to German: The house is wonderful.", 11)
    assert reading.ids == (13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5, 1)
    assert qwen.ids("Hello, world!") == (9707, 11, 1879, 0)


@settings(max_examples=500, deadline=None)
@given(text=st.text(max_size=60))
def test_t5_equals_transformers_on_any_text(t5: T5Tokenizer, their_t5: Any, text: str) -> None:
    assert list(t5.ids(text)) == their_t5(text, add_special_tokens=False)["input_ids"]


@settings(max_examples=500, deadline=None)
@given(text=st.text(max_size=60))
def test_qwen_equals_transformers_on_any_text(qwen: QwenTokenizer, their_qwen: Any, text: str) -> None:
    assert list(qwen.ids(text)) == their_qwen(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", ["", "a</s>b", "<extra_id_0> x", "<pad>", "a cat " * 20])
def test_t5_fills_and_cuts_like_transformers(t5: T5Tokenizer, their_t5: Any, text: str) -> None:
    reading = t5.read(text, 16)
    theirs = their_t5(text, padding="max_length", max_length=16, truncation=True)
    assert list(reading.ids) == theirs["input_ids"]
    assert reading.real == sum(theirs["attention_mask"])
    assert len(reading.ids) == len(reading.weights) == 16
    assert reading.left_out == max(0, len(t5.ids(text)) - 15)


def test_t5_weights(t5: T5Tokenizer) -> None:
    reading = t5.read("one (red:1.5) photo(realistic) [apple]", 12)
    assert reading.tokens == ("one", "red", "photo", "real", "istic", "apple")
    assert reading.weights[:7] == pytest.approx((1.0, 1.5, 1.0, 1.1, 1.1, 1 / 1.1, 1.0))
    plain = t5.read("one (red:1.5)", 12, brackets=False)
    assert set(plain.weights) == {1.0}
    assert plain.tokens[:2] == ("one", "(")
    assert t5.tokens("a (red:1.2)") == ("▁", "a", "red")


def test_qwen_reads_within_its_template(qwen: QwenTokenizer) -> None:
    assert len(qwen.ids(QWEN_IMAGE.before)) == QWEN_IMAGE.dropped
    reading = qwen.read("a (red:1.5) cat {x}", QWEN_IMAGE)
    words = "a red cat {x}"
    assert reading.ids == qwen.ids(f"{QWEN_IMAGE.before}{words}{QWEN_IMAGE.after}")
    assert reading.tokens == ("a", "red", "cat", "{", "x", "}")
    assert set(reading.weights) == {1.0}
    assert qwen.read("(a)", Z_IMAGE, brackets=False).tokens == ("(a", ")")


def test_qwen_cuts_what_is_too_long(qwen: QwenTokenizer) -> None:
    reading = qwen.read("cat " * 600, QWEN_IMAGE)
    assert len(reading.ids) == 34 + 512
    assert reading.left_out == 601 + 5 - 512  # the last space is a token; five close the template


def test_readable_tokens(qwen: QwenTokenizer) -> None:
    assert qwen.tokens("a red\napple") == ("a", "red", "\\n", "apple")
    assert all(part.isprintable() for part in qwen.tokens("👩‍👩‍👧‍👦 猫"))


def test_threads(t5: T5Tokenizer, qwen: QwenTokenizer) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(t5.ids, TEXTS)) == [t5.ids(text) for text in TEXTS]
        assert list(pool.map(qwen.ids, TEXTS)) == [qwen.ids(text) for text in TEXTS]


def test_a_folder_of_its_own(tmp_path: Path, t5: T5Tokenizer, qwen: QwenTokenizer) -> None:
    """In each of the forms that folders have, and as transformers writes it."""
    old, whole, pairs = (tmp_path / name for name in ("old", "whole", "pairs"))
    for folder in (old, whole, pairs):
        folder.mkdir()
    (old / "spiece.model").write_bytes(gzip.decompress(packed_pieces()))
    t5._tokenizer.save(str(whole / "tokenizer.json"))
    (pairs / "vocab.json").write_text(json.dumps(vocabulary(merges())), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges())]
    (pairs / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for folder in (old, whole):
        again = T5Tokenizer.from_folder(folder)
        assert [again.ids(text) for text in TEXTS] == [t5.ids(text) for text in TEXTS]
    mine = QwenTokenizer.from_folder(pairs)
    assert [mine.ids(text) for text in TEXTS] == [qwen.ids(text) for text in TEXTS]


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "model" / "tokenizer_2"
    folder.mkdir(parents=True)
    with pytest.raises(CheckpointMissing, match=r"model/tokenizer_2 .* T5.*tokenizer.json or spiece.model"):
        T5Tokenizer.from_folder(folder)
    with pytest.raises(CheckpointMissing, match=r"Qwen.*tokenizer.json or vocab.json with merges.txt"):
        QwenTokenizer.from_folder(folder)
    for content in (b"", b"\x0a\xff\xff", b"PK\x03\x04 something else", b"\x08" * 9):
        (folder / "spiece.model").write_bytes(content)
        with pytest.raises(CorruptCheckpoint, match=r"spiece.model in model/tokenizer_2 cannot be read"):
            T5Tokenizer.from_folder(folder)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CorruptCheckpoint, match=r"tokenizer.json in model/tokenizer_2 cannot be read"):
        QwenTokenizer.from_folder(folder)


def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path, t5: T5Tokenizer) -> None:
    t5._tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CorruptCheckpoint, match=r"no vocabulary of Qwen: it has no <\|im_start\|>"):
        QwenTokenizer.from_folder(tmp_path)


def test_which_folder_belongs_to_an_encoder(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_2").mkdir()
    model = tmp_path / "model_index.json"
    assert folder_of(model, "text_encoder_2") == tmp_path / "tokenizer_2"
    assert folder_of(model, "text_encoder") is None
    assert folder_of(tmp_path / "model.safetensors", "text_encoder_2") is None
