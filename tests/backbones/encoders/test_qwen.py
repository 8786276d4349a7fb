"""Qwen language models against the pipelines of diffusers that use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import QwenImagePipeline, ZImagePipeline
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3Config, Qwen3Model

from modules.backbones.encoders.qwen import QwenEncoder, load_qwen
from modules.core.errors import CorruptCheckpoint
from modules.prompting.qwen import QWEN_IMAGE, SPECIAL_QWEN3, Z_IMAGE, merges, vocabulary
from tests.backbones.encoders.tiny import FP32, LONG, SHORT, in_folder, randomised, their_qwen, written

TEXT = {
    "vocab_size": 151936, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
}  # fmt: skip
VISION = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
ROPE = {"rope_type": "default", "rope_theta": 1_000_000.0}
TEXTS = (SHORT, "", "\nA cat {with} \u732b", "<|im_end|> x", LONG)


def near(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def vision_language() -> Any:
    config = Qwen2_5_VLConfig(
        text_config=TEXT | {"rope_parameters": ROPE | {"mrope_section": [1, 1, 2]}}, vision_config=VISION
    )
    return randomised(Qwen2_5_VLForConditionalGeneration(config))


@pytest.fixture(scope="module")
def qwen_image(vision_language: Any, tmp_path_factory: pytest.TempPathFactory) -> QwenEncoder:
    """From a file with the whole model, of which the language part is named."""
    prefix = "model.language_model."
    info, names = written(vision_language, tmp_path_factory.mktemp("qwen") / "qwen_2.5_vl.safetensors")
    language = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    config = vision_language.config.to_dict()
    return load_qwen(info, language, config, FP32, kind="qwen2_5_vl", template=QWEN_IMAGE)


@pytest.fixture(scope="module")
def qwen3() -> Any:
    return randomised(Qwen3Model(Qwen3Config(**TEXT, head_dim=8, rope_parameters=ROPE)))


@pytest.fixture(scope="module")
def z_image(qwen3: Any, tmp_path_factory: pytest.TempPathFactory) -> QwenEncoder:
    info, names = written(qwen3, tmp_path_factory.mktemp("qwen") / "qwen_3.safetensors", "model.")
    return load_qwen(info, names, TEXT | {"head_dim": 8}, FP32, kind="qwen3", template=Z_IMAGE)


@pytest.mark.parametrize("text", TEXTS)
def test_qwen_image(vision_language: Any, qwen_image: QwenEncoder, text: str) -> None:
    pipeline = QwenImagePipeline(
        scheduler=None, vae=None, transformer=None, text_encoder=vision_language, tokenizer=their_qwen()
    )
    with torch.no_grad():
        theirs, mask = pipeline.encode_prompt(text, device="cpu", max_sequence_length=512)
    ours = qwen_image.encode(text, "None")
    assert mask is None
    assert ours.mask is None
    assert near(ours.hidden, theirs)


@pytest.mark.parametrize("text", TEXTS)
def test_z_image(qwen3: Any, z_image: QwenEncoder, text: str) -> None:
    pipeline = ZImagePipeline(
        scheduler=None, vae=None, transformer=None, text_encoder=qwen3, tokenizer=their_qwen(SPECIAL_QWEN3)
    )
    with torch.no_grad():
        (theirs,), _ = pipeline.encode_prompt(text, device="cpu", do_classifier_free_guidance=False)
    ours = z_image.encode(text, "None")
    assert near(ours.hidden[0], theirs)


def test_brackets_are_taken_off_and_weigh_nothing(z_image: QwenEncoder) -> None:
    plain = z_image.encode("a red cat").hidden
    assert torch.equal(z_image.encode("a (red:1.5) [cat]").hidden, plain)
    assert z_image.encode("a (red:1.5) [cat]", "None").hidden.shape[1] > plain.shape[1]
    assert z_image.tokens("a (red:1.5) cat") == ("a", "red", "cat")


def test_what_finds_no_room_is_counted(z_image: QwenEncoder) -> None:
    assert z_image.encode("a red cat").left_out == 0
    answer = z_image.encode(LONG)
    assert answer.hidden.shape == (1, 512, 32)
    assert answer.left_out == len(z_image.tokens(LONG)) + 3 + 5 - 512  # the template has eight tokens
    assert answer.notice.startswith(f"The last {answer.left_out} tokens of a prompt found no room")


def test_weights_that_are_left_out_are_told(z_image: QwenEncoder) -> None:
    assert "knows no weights" in z_image.encode("a (red:1.5) cat").notice
    for text, emphasis in (("a red cat", "Original"), ("a (red:1.5) cat", "None"), ("a (red:1.5) cat", "Ignore")):
        assert not z_image.encode(text, emphasis).notice  # type: ignore[arg-type]


def test_a_folder_reads_by_its_own_tokenizer(qwen3: Any, z_image: QwenEncoder, tmp_path: Path) -> None:
    own = tmp_path / "tokenizer"
    own.mkdir()
    (own / "vocab.json").write_text(json.dumps(vocabulary(merges())), encoding="utf-8")
    (own / "merges.txt").write_text("\n".join(" ".join(pair) for pair in merges()), encoding="utf-8")
    info, names = in_folder(qwen3, tmp_path, "text_encoder")
    folder = load_qwen(info, names, TEXT | {"head_dim": 8}, FP32, kind="qwen3", template=Z_IMAGE)
    assert torch.equal(folder.encode(SHORT).hidden, z_image.encode(SHORT).hidden)


def test_a_file_that_lacks_something_is_named(qwen3: Any, tmp_path: Path) -> None:
    info, names = written(qwen3, tmp_path / "lacking.safetensors")
    del names["norm.weight"]
    with pytest.raises(CorruptCheckpoint, match=r"lacking\.safetensors .*missing: norm\.weight"):
        load_qwen(info, names, TEXT | {"head_dim": 8}, FP32, kind="qwen3", template=Z_IMAGE)
