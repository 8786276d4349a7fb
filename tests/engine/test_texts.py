"""Encoded prompts: kept within bytes, because one prompt may be a thousand times as long as another."""

from __future__ import annotations

import torch

from modules.core.operations import Encode, ModelKey
from modules.engine.texts import Texts
from tests.engine.small import SmallBackbone

KEY = ModelKey("one", 1)
OTHER = ModelKey("two", 1)


def test_long_texts_push_out_older_ones_and_are_not_kept_beyond_the_capacity() -> None:
    backbone = SmallBackbone(KEY)
    (short,) = backbone.encode(["a"], 1)
    texts = Texts(capacity=2 * short.nbytes)
    long = "word " * 300  # four chunks
    for text in ("a", "b", "a", "c", "a"):
        texts.answer(backbone, Encode(KEY, (text,)))
    assert backbone.encoded == ["a", "a", "b", "c"]  # the first by hand; "b" has gone, "a" was used since
    first, second = texts.answer(backbone, Encode(KEY, (long, "a")))
    assert first.length == 4 * 77
    assert torch.equal(second.tokens, short.tokens)
    texts.answer(backbone, Encode(KEY, (long,)))
    assert backbone.encoded.count(long) == 2
    assert backbone.encoded.count("a") == 2


def test_texts_of_models_that_are_gone_are_dropped() -> None:
    backbone = SmallBackbone(KEY)
    texts = Texts()
    for model in (KEY, OTHER):
        texts.answer(backbone, Encode(model, ("a",)))
    texts.keep({KEY})
    for model in (KEY, OTHER):
        texts.answer(backbone, Encode(model, ("a",)))
    assert backbone.encoded == ["a", "a", "a"]
