"""CLIP encoders against the pipelines of diffusers that use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from modules.backbones.encoders.clip import CLIP_G, CLIP_L, SD1, SD2, ClipEncoder, Layer, clip_tokenizer, load_clip
from modules.core.checkpoint import Source
from modules.core.errors import CorruptCheckpoint, RequestError
from modules.prompting.clip import merges, vocabulary
from tests.backbones.encoders.tiny import FP32, LONG, SHORT, in_folder, randomised, their_clip, written

SMALL = {
    "hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 4, "num_attention_heads": 4, "projection_dim": 24,
    "hidden_act": "quick_gelu",
}  # fmt: skip
BIG = SMALL | {"hidden_size": 40, "hidden_act": "gelu", "projection_dim": 40, "num_hidden_layers": 3}
TEXTS = (
    SHORT,
    "",
    "a cat, " * 40,
    "<|endoftext|> x",
)  # the third is longer than a chunk: diffusers reads the first alone


def made(model: Any, config: dict[str, Any], seed: int) -> Any:
    return randomised(model(CLIPTextConfig(**config)), seed)


def near(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clip")


class Pair:
    """A module of transformers and our encoder from its file."""

    def __init__(self, folder: Path, model: Any, config: dict[str, Any], layer: Layer, prefix: str = "") -> None:
        self.theirs = made(model, config, seed=len(prefix))
        info, names = written(self.theirs, folder / f"{id(self)}.safetensors", prefix)
        self.ours: ClipEncoder = load_clip(info, names, config, FP32, layer=layer)


@pytest.fixture(scope="module")
def sdxl(folder: Path) -> tuple[Pair, Pair, Any]:
    first = Pair(folder, CLIPTextModel, SMALL, CLIP_L, "conditioner.embedders.0.transformer.")
    second = Pair(folder, CLIPTextModelWithProjection, BIG, CLIP_G)
    return first, second, StableDiffusionXLPipeline(
        vae=None, unet=None, scheduler=EulerDiscreteScheduler(), text_encoder=first.theirs, tokenizer=their_clip(),
        text_encoder_2=second.theirs, tokenizer_2=their_clip("!"), add_watermarker=False,
    )  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_sdxl(sdxl: tuple[Pair, Pair, Any], text: str) -> None:
    first, second, pipeline = sdxl
    with torch.no_grad():
        hidden, _, pooled, _ = pipeline.encode_prompt(text, device="cpu", do_classifier_free_guidance=False)
    one, two = (pair.ours.encode(text, 1, "None") for pair in (first, second))
    assert near(torch.cat([one.hidden, two.hidden], dim=-1)[:, :77], hidden)
    assert near(two.pooled, pooled)


@pytest.mark.parametrize(("clip_skip", "theirs"), [(1, None), (2, None), (3, 1)])
def test_clip_skip_of_sdxl(sdxl: tuple[Pair, Pair, Any], clip_skip: int, theirs: int | None) -> None:
    """The last layer but one, unless more are skipped."""
    first, second, pipeline = sdxl
    with torch.no_grad():
        hidden, *_ = pipeline.encode_prompt(SHORT, device="cpu", do_classifier_free_guidance=False, clip_skip=theirs)
    ours = [pair.ours.encode(SHORT, clip_skip).hidden for pair in (first, second)]
    assert near(torch.cat(ours, dim=-1), hidden)


@pytest.mark.parametrize("text", TEXTS)
def test_sd3(folder: Path, text: str) -> None:
    first = Pair(folder, CLIPTextModelWithProjection, SMALL, CLIP_L)
    second = Pair(folder, CLIPTextModelWithProjection, BIG, CLIP_G, "text_encoders.clip_g.transformer.")
    pipeline = StableDiffusion3Pipeline(
        transformer=None, scheduler=None, vae=None, text_encoder=first.theirs, tokenizer=their_clip(),
        text_encoder_2=second.theirs, tokenizer_2=their_clip("!"), text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    for index, pair in enumerate((first, second)):
        with torch.no_grad():
            hidden, pooled = pipeline._get_clip_prompt_embeds(text, device="cpu", clip_model_index=index)
        ours = pair.ours.encode(text, 1, "None")
        assert near(ours.hidden[:, :77], hidden)
        assert near(ours.pooled, pooled)


@pytest.mark.parametrize("text", TEXTS)
def test_pooled_of_flux(folder: Path, text: str) -> None:
    pair = Pair(folder, CLIPTextModel, SMALL, SD1)
    pipeline = FluxPipeline(
        transformer=None, scheduler=None, vae=None, text_encoder=pair.theirs, tokenizer=their_clip(),
        text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip
    with torch.no_grad():
        pooled = pipeline._get_clip_prompt_embeds(text, device="cpu")
    assert near(pair.ours.encode(text, 1, "None").pooled, pooled)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(("layer", "pad"), [(SD1, "<|endoftext|>"), (SD2, "!")])
def test_sd1_and_sd2(folder: Path, text: str, layer: Layer, pad: str) -> None:
    """SD2 has its last layer cut off, so that the last of those there are is the last but one."""
    pair = Pair(folder, CLIPTextModel, BIG, layer)
    pipeline = StableDiffusionPipeline(
        vae=None, unet=None, scheduler=EulerDiscreteScheduler(steps_offset=1), safety_checker=None,
        text_encoder=pair.theirs, tokenizer=their_clip(pad), requires_safety_checker=False, feature_extractor=None,
    )  # fmt: skip
    with torch.no_grad():
        hidden, _ = pipeline.encode_prompt(text, "cpu", 1, False)
        states = pair.theirs(torch.tensor([clip_ids(layer, text)]), output_hidden_states=True).hidden_states
    assert near(pair.ours.encode(text, 1, "None").hidden[:, :77], hidden)
    one_less = pair.theirs.final_layer_norm(states[-2])
    assert near(pair.ours.encode(text, 2 + layer.cut, "None").hidden[:, :77], one_less)


def clip_ids(layer: Layer, text: str) -> tuple[int, ...]:
    return clip_tokenizer(layer.padding).chunks(text, brackets=False)[0].ids


def test_emphasis(sdxl: tuple[Pair, Pair, Any]) -> None:
    """Each token's state times its weight; the pooled vector stays."""
    encoder = sdxl[1].ours
    plain, weighted = encoder.encode("a red cat"), encoder.encode("a (red:1.5) cat", emphasis="No norm")
    factors = torch.ones(77)
    factors[2] = 1.5
    assert near(weighted.hidden[0], plain.hidden[0] * factors.unsqueeze(-1))
    assert torch.equal(weighted.pooled, plain.pooled)
    restored = encoder.encode("a (red:1.5) cat", emphasis="Original").hidden
    assert near(restored, weighted.hidden * plain.hidden.mean() / weighted.hidden.mean())
    assert torch.equal(encoder.encode("a (red:1.5) cat", emphasis="Ignore").hidden, plain.hidden)


def test_long_prompts_are_read_in_chunks(sdxl: tuple[Pair, Pair, Any]) -> None:
    encoder = sdxl[0].ours
    chunks = len(encoder.tokens(LONG))
    answer = encoder.encode(LONG)
    assert answer.hidden.shape == (1, 77 * chunks, 32)
    assert answer.pooled.shape == (1, 32)


@pytest.mark.parametrize(("skip", "layer"), [(0, SD1), (4, SD1), (5, SD2), (-1, SD2)])
def test_a_clip_skip_past_the_layers_is_refused(folder: Path, skip: int, layer: Layer) -> None:
    encoder = Pair(folder, CLIPTextModel, BIG, layer).ours
    with pytest.raises(RequestError, match=f"1 to {3 + layer.cut}"):
        encoder.encode("a cat", skip)


def test_a_projection_that_lies_the_other_way(folder: Path) -> None:
    """OpenCLIP's files keep it for multiplying from the other side."""
    module = made(CLIPTextModelWithProjection, BIG | {"projection_dim": 24}, 3)
    info, names = written(module, folder / "straight.safetensors")
    straight = load_clip(info, names, BIG | {"projection_dim": 24}, FP32, layer=CLIP_G)
    with torch.no_grad():
        module.text_projection.weight = torch.nn.Parameter(module.text_projection.weight.t().contiguous())
    info, names = written(module, folder / "turned.safetensors")
    turned = names | {"text_projection.weight": Source("text_projection.weight", change="transpose")}
    again = load_clip(info, turned, BIG | {"projection_dim": 24}, FP32, layer=CLIP_G)
    assert near(again.encode(SHORT).pooled, straight.encode(SHORT).pooled)


def test_names_without_their_level(folder: Path) -> None:
    """A table may say `text_model.` or not, whatever the class keeps."""
    module = made(CLIPTextModelWithProjection, SMALL, 4)
    info, names = written(module, folder / "levels.safetensors")
    bare = {name.removeprefix("text_model."): source for name, source in names.items()}
    full = load_clip(info, names, SMALL, FP32, layer=CLIP_L).encode(SHORT)
    assert torch.equal(load_clip(info, bare, SMALL, FP32, layer=CLIP_L).encode(SHORT).hidden, full.hidden)


def test_a_file_that_lacks_something_is_named(folder: Path) -> None:
    info, names = written(made(CLIPTextModel, SMALL, 0), folder / "lacking.safetensors")
    del names["final_layer_norm.bias"]
    with pytest.raises(CorruptCheckpoint, match=r"lacking\.safetensors .*missing: final_layer_norm\.bias"):
        load_clip(info, names, SMALL, FP32)


def test_a_folder_reads_by_its_own_tokenizer(tmp_path: Path) -> None:
    """Its vocabulary says where "apple" is."""
    numbers = dict(vocabulary(merges()))
    numbers["apple</w>"], numbers["red</w>"] = numbers["red</w>"], numbers["apple</w>"]
    own = tmp_path / "tokenizer_2"
    own.mkdir()
    (own / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (own / "merges.txt").write_text("\n".join(" ".join(pair) for pair in merges()), encoding="utf-8")
    module = made(CLIPTextModel, SMALL, 0)
    info, names = in_folder(module, tmp_path, "text_encoder_2")
    mine = load_clip(info, names, SMALL, FP32, component="text_encoder_2")
    bundled = load_clip(info, names, SMALL, FP32)
    assert torch.equal(mine.encode("red").hidden, bundled.encode("apple").hidden)
