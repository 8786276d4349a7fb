"""Checkpoints without a text encoder or a VAE, together with files that hold those alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from modules.backbones.sd1 import load_sd1
from modules.backbones.unet import UnetModel
from modules.core.checkpoint import Header, ModelInfo, Separate, read_header
from modules.core.errors import CheckpointError, RequestError, UnsupportedCheckpoint
from modules.core.family import Family, identify
from modules.core.plugin import collect
from modules.diffusion.backbone import Placement
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae
from tests.passes import denoise, encoded
from tests.tiny import NATIVE, metadata, write_part, write_tiny_sd1, write_without

CPU = torch.device("cpu")
FP32 = Placement(
    device=CPU, dtype=torch.float32, vae_dtype=torch.float32, text_device=CPU, unet_device=CPU, vae_device=CPU
)
TEXT = "cond_stage_model."
TEXT_MODEL = "cond_stage_model.transformer.text_model."
VAE = "first_stage_model."


def as_checkpoint(header: Header) -> ModelInfo:
    return identify(header, collect("modules.families", Family, group="inferenz.families"))


def read(path: Path, how: Callable[[Header], ModelInfo]) -> ModelInfo:
    info = how(read_header(path))
    assert info.supported, info.problem
    return info


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("separate")
    whole = write_tiny_sd1(made / "whole.safetensors", seed=1)
    write_without(whole, made / "no-text.safetensors", TEXT)
    write_without(whole, made / "no-vae.safetensors", VAE)
    write_without(whole, made / "unet.safetensors", TEXT, VAE)
    write_part(whole, made / "vae.safetensors", prefix=VAE)
    write_part(whole, made / "text.safetensors", prefix=TEXT_MODEL, to="text_model.")
    return made


@pytest.fixture(scope="module")
def wanted(folder: Path) -> Tensor:
    """The picture of the checkpoint that has all its parts."""
    return picture(load_sd1(read(folder / "whole.safetensors", as_checkpoint), None, FP32))


def picture(model: UnetModel) -> Tensor:
    x = torch.randn(1, 4, NATIVE // 8, NATIVE // 8, generator=torch.Generator().manual_seed(3)) * 3
    return model.decode(denoise(model, x, torch.tensor([3.0]), encoded(model, ["(hello:1.3) world"], 2)[0]))


def close(one: Tensor, other: Tensor) -> bool:
    """Equal to rounding: kernels round by how a mapped weight is aligned, so two files differ in last bits."""
    return float((one - other).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("to", "extras"),
    [
        (TEXT_MODEL, {}),
        ("cond_stage_model.transformer.", {}),
        ("text_model.", {"text_projection.weight": (8, 8), "logit_scale": (1,)}),
        ("text_model.", {"vision_model.encoder.layers.0.mlp.fc1.bias": (4,), "visual_projection.weight": (8, 4)}),
        ("", {}),
        ("text_encoder.text_model.", {}),
        ("text_encoders.clip_l.transformer.text_model.", {"text_encoders.clip_l.logit_scale": (1,)}),
        ("transformer.text_model.", {"transformer.text_projection.weight": (8, 8)}),
    ],
)
def test_a_text_encoder_file_of_any_layout_completes_a_checkpoint(
    to: str, extras: dict[str, tuple[int, ...]], folder: Path, wanted: Tensor, tmp_path: Path
) -> None:
    file = write_part(folder / "whole.safetensors", tmp_path / "clip.safetensors", prefix=TEXT_MODEL, to=to, **extras)
    parts = Separate(text_encoder=read(file, identify_text_encoder))
    model = load_sd1(read(folder / "no-text.safetensors", as_checkpoint), parts, FP32)
    assert close(picture(model), wanted)
    with pytest.raises(RequestError, match="1 to 2"):
        encoded(model, ["a"], 3)


def test_a_bare_unet_is_completed_by_two_files(folder: Path, wanted: Tensor) -> None:
    parts = Separate(
        text_encoder=read(folder / "text.safetensors", identify_text_encoder),
        vae=read(folder / "vae.safetensors", identify_vae),
    )
    model = load_sd1(read(folder / "unet.safetensors", as_checkpoint), parts, FP32)
    assert close(picture(model), wanted)
    assert close(picture(model.upcast()), wanted)
    assert (model.key.text_encoder, model.key.vae) == tuple(str(folder / f"{n}.safetensors") for n in ("text", "vae"))


def test_parts_are_also_taken_from_whole_checkpoints(folder: Path, wanted: Tensor) -> None:
    whole = folder / "whole.safetensors"
    parts = Separate(text_encoder=read(whole, identify_text_encoder), vae=read(whole, identify_vae))
    model = load_sd1(read(folder / "unet.safetensors", as_checkpoint), parts, FP32)
    assert close(picture(model), wanted)


def test_a_text_encoder_of_ones_own_can_be_replaced(folder: Path, tmp_path: Path) -> None:
    other = write_tiny_sd1(tmp_path / "other.safetensors", seed=2)
    info = read(folder / "whole.safetensors", as_checkpoint)
    parts = Separate(text_encoder=read(other, identify_text_encoder))
    mixed, own = (encoded(load_sd1(info, each, FP32), ["a"])[0] for each in (parts, None))
    assert not torch.equal(mixed, own)
    assert torch.equal(mixed, encoded(load_sd1(read(other, as_checkpoint), None, FP32), ["a"])[0])


@pytest.mark.parametrize(
    ("name", "says"), [("no-text", "no CLIP-L text encoder of its own"), ("no-vae", "no VAE of its own")]
)
def test_a_missing_part_is_named(name: str, says: str, folder: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=f"{name} has {says}"):
        load_sd1(read(folder / f"{name}.safetensors", as_checkpoint), None, FP32)


def test_a_text_encoder_of_another_width_is_refused(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "text.safetensors")
    wide = {name: np.repeat(tensor, 2, axis=tensor.ndim - 1) for name, tensor in tensors.items()}
    wide = {name: np.repeat(tensor, 2, axis=0) if tensor.ndim == 2 else tensor for name, tensor in wide.items()}
    for name in ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight"):
        wide[f"text_model.{name}"] = np.repeat(tensors[f"text_model.{name}"], 2, axis=1)
    save_file(wide, tmp_path / "wide.safetensors", metadata=metadata())
    parts = Separate(text_encoder=read(tmp_path / "wide.safetensors", identify_text_encoder))
    with pytest.raises(CheckpointError, match="width of 16 where no-text needs 8"):
        load_sd1(read(folder / "no-text.safetensors", as_checkpoint), parts, FP32)
