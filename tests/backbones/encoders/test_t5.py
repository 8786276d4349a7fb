"""T5's encoder against the pipelines of diffusers that use it."""

from __future__ import annotations

import copy
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ChromaPipeline, FluxPipeline, StableDiffusion3Pipeline
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from modules.backbones.encoders.loading import wide_text_dtype
from modules.backbones.encoders.t5 import T5Encoder, load_t5, t5_tokenizer
from modules.backbones.offload import Turns
from modules.backbones.weights import weight_bytes
from modules.core.errors import CheckpointMissing, CorruptCheckpoint
from modules.core.job import MemoryMode
from modules.prompting.t5 import packed_pieces
from tests.backbones.encoders.tiny import CPU, FP32, LONG, SHORT, in_folder, randomised, their_t5, written

CONFIG = {
    "vocab_size": 32128, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4,
    "feed_forward_proj": "gated-gelu", "dropout_rate": 0.1,
}  # fmt: skip
TEXTS = (SHORT, "", "  Two\nlines,  猫 \u00bd ", "a</s>b <pad> x", LONG)


def near(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def module() -> Any:
    made: Any = randomised(T5EncoderModel(T5Config(**CONFIG)))
    made.encoder.set_input_embeddings(made.shared)
    return made


@pytest.fixture(scope="module")
def encoder(module: Any, tmp_path_factory: pytest.TempPathFactory) -> T5Encoder:
    return load_t5(*written(module, tmp_path_factory.mktemp("t5") / "t5.safetensors"), CONFIG, FP32)


@pytest.mark.parametrize("text", TEXTS)
def test_flux(module: Any, encoder: T5Encoder, text: str) -> None:
    pipeline = FluxPipeline(
        transformer=None, scheduler=None, vae=None, text_encoder=None, tokenizer=None, text_encoder_2=module,
        tokenizer_2=their_t5(),
    )  # fmt: skip
    with torch.no_grad():
        theirs = pipeline._get_t5_prompt_embeds(text, device="cpu", dtype=torch.float32)
    ours = encoder.encode(text, "None")
    assert ours.hidden.shape == (1, 512, 32)
    assert ours.mask is None
    assert near(ours.hidden, theirs)


@pytest.mark.parametrize("text", TEXTS)
def test_sd3(module: Any, encoder: T5Encoder, text: str) -> None:
    pipeline = StableDiffusion3Pipeline(
        transformer=None, scheduler=None, vae=None, text_encoder=None, tokenizer=None, text_encoder_2=None,
        tokenizer_2=None, text_encoder_3=module, tokenizer_3=their_t5(),
    )  # fmt: skip
    with torch.no_grad():
        theirs = pipeline._get_t5_prompt_embeds(text, device="cpu", dtype=torch.float32)
    assert near(encoder.encode(text, "None", length=256).hidden, theirs)


@pytest.mark.parametrize("text", TEXTS)
def test_chroma(module: Any, tmp_path: Path, text: str) -> None:
    """Padding is not attended to, and one token of it is seen by the denoiser."""
    info, names = written(module, tmp_path / "t5.safetensors", "text_encoder.")
    encoder = load_t5(info, names, CONFIG, FP32, masked=True, spare=1)
    pipeline = ChromaPipeline(transformer=None, scheduler=None, vae=None, text_encoder=module, tokenizer=their_t5())
    with torch.no_grad():
        theirs, mask = pipeline._get_t5_prompt_embeds(text, device="cpu")
    ours = encoder.encode(text, "None")
    assert ours.mask is not None
    assert torch.equal(ours.mask, mask.bool())
    assert near(ours.hidden, theirs)


def test_weights_multiply(encoder: T5Encoder) -> None:
    plain = encoder.encode("one red apple").hidden
    factors = torch.ones(512)
    factors[1] = 1.5
    weighted = plain * factors.unsqueeze(-1)
    assert near(encoder.encode("one (red:1.5) apple").hidden, weighted)
    assert near(encoder.encode("one (red:1.5) apple", "No norm").hidden, weighted)
    assert torch.equal(encoder.encode("one (red:1.5) apple", "Ignore").hidden, plain)
    assert not near(encoder.encode("one (red:1.5) apple", "None").hidden, plain)


def test_what_finds_no_room_is_counted(encoder: T5Encoder) -> None:
    assert encoder.encode("one red apple").left_out == 0
    assert encoder.encode(LONG).left_out == len(encoder.tokens(LONG)) - 511
    assert encoder.tokens("one (red:1.2)", "None") == ("one", "(", "red", ":", "1.2", ")")


@pytest.mark.parametrize("absent", ["shared.weight", "encoder.embed_tokens.weight"])
def test_the_embeddings_have_either_name(module: Any, encoder: T5Encoder, tmp_path: Path, absent: str) -> None:
    info, names = written(module, tmp_path / "t5.safetensors")
    del names[absent]
    either = load_t5(info, names, CONFIG, FP32)
    assert torch.equal(either.encode(SHORT).hidden, encoder.encode(SHORT).hidden)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_embeddings_are_there_once(module: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    info, names = written(module, tmp_path / "t5.safetensors")
    loaded = load_t5(info, names, CONFIG, replace(FP32, dtype=dtype)).module
    table = loaded.shared.weight
    assert loaded.encoder.embed_tokens.weight is table
    assert loaded.shared(torch.tensor([0])).dtype == dtype
    assert weight_bytes(loaded) == sum(each.nbytes for each in loaded.parameters())


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_are_the_mapped_file(module: Any, tmp_path: Path, stored: torch.dtype) -> None:
    """Whatever their dtype, all but norms compute with the file's own pages: no copy is made of T5-XXL's 9.5 GB."""
    kept = copy.deepcopy(module).to(stored)
    info, names = written(kept, tmp_path / "t5.safetensors")
    encoder = load_t5(info, names, CONFIG, FP32)
    converted = T5Encoder(kept.float(), t5_tokenizer(), FP32)
    assert near(encoder.encode(SHORT).hidden, converted.encode(SHORT).hidden)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("mapped files are listed on Linux alone")
    ranges = [line.split()[0] for line in maps.read_text().splitlines() if line.endswith(info.path)]
    spans = [tuple(int(end, 16) for end in each.split("-")) for each in ranges]
    for name, value in encoder.module.named_parameters():
        if value.dtype == torch.uint8 or value.dim() == 2:  # packed, or a table
            assert any(begin <= value.data_ptr() < end for begin, end in spans), name


@pytest.mark.parametrize("mode", ["medium", "low"])
def test_offloading_takes_along_what_stays_as_stored(module: Any, tmp_path: Path, mode: MemoryMode) -> None:
    info, names = written(copy.deepcopy(module).half(), tmp_path / "t5.safetensors")
    encoder = load_t5(info, names, CONFIG, FP32)
    before = encoder.encode(SHORT).hidden
    turns = Turns(CPU, mode)
    turns.add(encoder.module)
    assert torch.equal(encoder.encode(SHORT).hidden, before)
    assert torch.equal(encoder.encode(SHORT).hidden, before)
    turns.close()


def test_where_all_is_to_be_unpacked_nothing_stays_as_stored(module: Any, tmp_path: Path) -> None:
    info, names = written(copy.deepcopy(module).half(), tmp_path / "t5.safetensors")
    loaded = load_t5(info, names, CONFIG, replace(FP32, storage="compute")).module
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}


def test_states_too_large_for_float16_are_computed_in_bfloat16() -> None:
    half = replace(FP32, dtype=torch.float16)
    assert wide_text_dtype(half) == torch.float32
    assert wide_text_dtype(replace(half, text_device=torch.device("cuda"))) == torch.bfloat16
    assert wide_text_dtype(replace(half, dtype=torch.bfloat16)) == torch.bfloat16


def test_a_folder_reads_by_its_own_tokenizer(module: Any, encoder: T5Encoder, tmp_path: Path) -> None:
    own = tmp_path / "tokenizer_2"
    own.mkdir()
    info, names = in_folder(module, tmp_path, "text_encoder_2")
    with pytest.raises(CheckpointMissing, match="tokenizer_2 holds no vocabulary of T5"):
        load_t5(info, names, CONFIG, FP32, component="text_encoder_2")
    (own / "spiece.model").write_bytes(gzip.decompress(packed_pieces()))
    folder = load_t5(info, names, CONFIG, FP32, component="text_encoder_2")
    assert torch.equal(folder.encode(SHORT).hidden, encoder.encode(SHORT).hidden)


def test_a_file_that_lacks_something_is_named(module: Any, tmp_path: Path) -> None:
    info, names = written(module, tmp_path / "lacking.safetensors")
    del names["encoder.final_layer_norm.weight"]
    with pytest.raises(CorruptCheckpoint, match=r"lacking\.safetensors .*missing: encoder\.final_layer_norm\.weight"):
        load_t5(info, names, CONFIG, FP32)
