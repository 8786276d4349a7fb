"""The counter's numbers are those of what the encoders read."""

from __future__ import annotations

import pytest

from modules.core.family import Reads
from modules.prompting.clip import ClipTokenizer
from modules.prompting.counting import count_tokens
from modules.prompting.qwen import QWEN_IMAGE, Z_IMAGE, QwenTokenizer, Template
from modules.prompting.t5 import T5Tokenizer

LONG = "a lighthouse on a cliff at dawn, " * 120


def test_clip_counts_in_chunks_and_t5_up_to_its_end() -> None:
    assert count_tokens("a red apple", "clip", 75) == (3, 75)
    assert count_tokens(LONG, "clip", 75) == ClipTokenizer.load().count_display(LONG)
    read = T5Tokenizer.load().read("a (red:1.3) apple", 256)
    assert count_tokens("a (red:1.3) apple", "t5", 256) == (read.real - 1, 255)
    used, room = count_tokens(LONG, "t5", 256)
    assert used - room == T5Tokenizer.load().read(LONG, 256).left_out


@pytest.mark.parametrize(("by", "template"), [("qwen_image", QWEN_IMAGE), ("z_image", Z_IMAGE)])
def test_qwen_counts_what_finds_room_within_the_conversation(by: str, template: Template) -> None:
    tokenizer = QwenTokenizer.load()
    used, room = count_tokens(LONG.strip(), by, 512)
    assert used > room
    assert used - room == tokenizer.read(LONG.strip(), template).left_out
    assert count_tokens("a red apple", by, 512)[0] == len(tokenizer.tokens("a red apple"))


def test_the_longest_text_of_a_prompt_counts() -> None:
    edited = "[a cat:a black cat in the rain:0.5]"
    assert count_tokens(edited, "t5", 256, evaluations=20) == count_tokens("a black cat in the rain", "t5", 256)
    assert count_tokens("a cat AND a black dog", "clip", 75) == count_tokens("a black dog", "clip", 75)
    assert count_tokens("a cat AND a black dog", "clip", 75, joined=False)[0] == 6


def test_a_model_that_nobody_knows_to_read_has_no_count() -> None:
    assert count_tokens("a cat", "", 75) == (0, 0)


def test_a_variant_may_read_less() -> None:
    reads = Reads(by="t5", length=512, lengths={"schnell": 256})
    assert (reads.of("dev"), reads.of("schnell")) == (512, 256)
