"""Folders in diffusers' layout, saved by diffusers and transformers themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

from modules.core.checkpoint import MODEL_INDEX, read_header
from modules.core.errors import CheckpointError, CheckpointMissing, CorruptCheckpoint, NotAMatch, UnsafeCheckpoint
from modules.core.family import Family, identify, recognise
from modules.core.plugin import Registry, collect
from modules.families.layouts.parts import sort_parts

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@pytest.fixture(scope="module")
def families() -> Registry[Family]:
    return collect("modules.families", Family, group="inferenz.families")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Stable Diffusion 1, as its pipeline would save it."""
    place = tmp_path / "tiny-model"
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, cross_attention_dim=32,
        attention_head_dim=2, norm_num_groups=4, sample_size=8,
    )  # fmt: skip
    text = CLIPTextModel(
        CLIPTextConfig(vocab_size=49408, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                       num_attention_heads=4)
    )  # fmt: skip
    unet.save_pretrained(place / "unet")
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(place / "vae")
    text.save_pretrained(place / "text_encoder")
    DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True).save_pretrained(place / "scheduler")
    (place / MODEL_INDEX).write_text(json.dumps(INDEX))
    return place


def test_a_folder_is_one_header(folder: Path) -> None:
    header = read_header(folder / MODEL_INDEX)
    saved = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert {name for name in header.tensors if name.startswith("unet.")} == {f"unet.{name}" for name in saved}
    info = header.tensors["unet.conv_in.weight"]
    assert (info.name, Path(info.file)) == ("conv_in.weight", folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert (header.file_name, header.stem) == ("tiny-model", "tiny-model")
    assert set(header.configs) == {"model_index", "unet", "vae", "text_encoder", "scheduler"}
    assert header.configs["unet"]["cross_attention_dim"] == 32
    files = list(folder.rglob("*.safetensors"))
    assert header.size == sum(path.stat().st_size for path in files)
    assert header.mtime_ns >= max(path.stat().st_mtime_ns for path in files)


def test_a_folder_is_of_its_family(folder: Path, families: Registry[Family]) -> None:
    info = recognise(read_header(folder / MODEL_INDEX), families)
    assert (info.family, info.layout, info.name) == ("sd1", "diffusers", "tiny-model")
    assert info.components == ("unet", "text_encoder", "vae")
    assert (info.prediction, info.config["scheduler"]["rescale_betas_zero_snr"]) == ("v", True)
    assert info.config["scheduler"]["zero_terminal_snr"] is True
    assert (info.defaults.width, info.defaults.height) == (64, 64)
    made = UNet2DConditionModel(**info.config["unet"])
    assert set(sort_parts(read_header(folder / MODEL_INDEX)).of("unet")) == set(made.state_dict())


def test_shards_and_variants(folder: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    whole = set(read_header(folder / MODEL_INDEX).tensors)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(folder / "unet", variant="fp16")
    assert (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    assert set(read_header(folder / MODEL_INDEX).tensors) == whole
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="30KB")
    shards = sorted((folder / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    header = read_header(folder / MODEL_INDEX)
    assert set(header.tensors) == whole
    assert {Path(info.file) for name, info in header.tensors.items() if name.startswith("unet.")} == set(shards)
    shards[0].unlink()
    with pytest.raises(CorruptCheckpoint, match=rf"tiny-model is incomplete: unet/{shards[0].name} is missing"):
        read_header(folder / MODEL_INDEX)


def test_what_is_missing_is_named(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CorruptCheckpoint, match="tiny-model is incomplete: vae has no weights"):
        read_header(folder / MODEL_INDEX)
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(UnsafeCheckpoint, match=r"its vae is there as a pickle only \(diffusion_pytorch_model\.bin\)"):
        read_header(folder / MODEL_INDEX)
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(CorruptCheckpoint, match=r"vae/config\.json is missing"):
        read_header(folder / MODEL_INDEX)
    with pytest.raises(CheckpointMissing):
        read_header(folder / "elsewhere" / MODEL_INDEX)


def test_a_missing_tensor_of_a_folder_is_named(folder: Path, families: Registry[Family]) -> None:
    from safetensors.torch import save_file

    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["conv_out.bias"]
    save_file(tensors, path)
    info = identify(read_header(folder / MODEL_INDEX), families)
    assert (info.family, info.supported) == ("sd1", False)
    assert info.problem.startswith("tiny-model is incomplete: conv_out.bias of the unet is missing")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", CorruptCheckpoint),
        ("[]", CorruptCheckpoint),
        ("{}", NotAMatch),
        ('{"_class_name": "P", "../up": ["a", "B"]}', NotAMatch),
        ("[" * 100_000, CorruptCheckpoint),
    ],
)
def test_damaged_indexes(text: str, error: type[CheckpointError], tmp_path: Path) -> None:
    (tmp_path / MODEL_INDEX).write_text(text)
    with pytest.raises(error):
        read_header(tmp_path / MODEL_INDEX)


def test_any_other_pipeline_is_the_adapters(folder: Path, families: Registry[Family]) -> None:
    (folder / MODEL_INDEX).write_text(json.dumps({**INDEX, "_class_name": "Lumina2Pipeline"}))
    (folder / "unet").rename(folder / "transformer")
    index = {**INDEX, "_class_name": "Lumina2Pipeline", "transformer": ["diffusers", "Lumina2Transformer2DModel"]}
    del index["unet"]
    (folder / MODEL_INDEX).write_text(json.dumps(index))
    info = recognise(read_header(folder / MODEL_INDEX), families)
    assert (info.family, info.label, info.layout) == ("diffusers", "Lumina 2", "diffusers")
    (folder / MODEL_INDEX).write_text(json.dumps({**index, "_class_name": "WanPipeline"}))
    assert not identify(read_header(folder / MODEL_INDEX), families).supported
