"""Z-Image and Qwen-Image from packed files, and what is refused, without the engine around them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.torch import load_file, save_file
from torch import Tensor

from modules.backbones.qwen_image import qwen_image
from modules.backbones.z_image import z_image
from modules.core.checkpoint import ModelInfo, Separate, read_header
from modules.core.errors import UnsupportedCheckpoint
from modules.core.family import recognise
from modules.diffusion.backbone import Backbone
from modules.engine.manager import Loaders
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae
from tests import tiny_qwens as tiny
from tests.engine.small import placement
from tests.passes import denoise

KINDS = {"z_image": z_image, "qwen_image": qwen_image}


@pytest.fixture(scope="module")
def models() -> dict[str, tiny.TinyQwen]:
    return {family: tiny.tiny_model(family) for family in KINDS}


def described(folder: Path, model: tiny.TinyQwen) -> tuple[Path, Separate[ModelInfo]]:
    """The transformer's file, and its parts."""
    checkpoint, separate = model.write(folder)
    assert separate.text_encoder is not None
    assert separate.vae is not None
    text = identify_text_encoder(read_header(Path(separate.text_encoder.path)))
    vae = identify_vae(read_header(Path(separate.vae.path)))
    return Path(checkpoint.path), Separate(text_encoder=text, vae=vae)


def loaded(path: Path, parts: Separate[ModelInfo]) -> Backbone:
    info = recognise(read_header(path), Loaders().families)
    return KINDS[info.family].load(info, parts, placement())


def pass_of(model: Backbone) -> Tensor:
    x = torch.randn(1, tiny.LATENT, 6, 8, generator=torch.Generator().manual_seed(0))
    return denoise(model, x, torch.tensor([0.6]), model.encode(["a red apple"], 1)[0])


def in_fp8(path: Path) -> Path:
    """The same file with its matrices in eight bits; beside it, `rounded_` with their values in float32."""
    told = dict(read_header(path).metadata)
    small = {
        name: value.to(torch.float8_e4m3fn) if value.dim() == 2 and "embed_tokens" not in name else value
        for name, value in load_file(path).items()
    }
    packed = path.with_name(f"fp8_{path.name}")
    save_file(small, packed, metadata=told)
    rounded = {name: value.float() for name, value in small.items()}
    save_file(rounded, path.with_name(f"rounded_{path.name}"), metadata=told)
    return packed


@pytest.mark.parametrize("family", KINDS)
def test_eight_bits_compute_as_what_they_stand_for(
    family: str, models: dict[str, tiny.TinyQwen], tmp_path: Path
) -> None:
    path, parts = described(tmp_path, models[family])
    assert parts.text_encoder is not None
    text = in_fp8(Path(parts.text_encoder.path))
    packed = loaded(in_fp8(path), replace(parts, text_encoder=identify_text_encoder(read_header(text))))
    assert packed.info.quantisation == "fp8"
    assert packed.weight_bytes < loaded(path, parts).weight_bytes
    plain = identify_text_encoder(read_header(text.with_name(f"rounded_{Path(parts.text_encoder.path).name}")))
    rounded = loaded(path.with_name(f"rounded_{path.name}"), replace(parts, text_encoder=plain))
    torch.testing.assert_close(pass_of(packed), pass_of(rounded), atol=1e-5, rtol=1e-5)


def test_z_image_in_gguf(models: dict[str, tiny.TinyQwen], tmp_path: Path) -> None:
    """As such files are spread: original names, query, key and value in one, and packed so."""
    _, parts = described(tmp_path, models["z_image"])
    writer = GGUFWriter(tmp_path / "z.gguf", "lumina2")
    kind = GGMLQuantizationType.Q8_0
    rounded: dict[str, Tensor] = {}
    for name, value in tiny.z_image(models["z_image"].parts["transformer"].state_dict()).items():
        if value.dim() == 2 and value.shape[1] % 32 == 0:
            blocks = quants.quantize(value.numpy(), kind)
            writer.add_tensor(name, blocks, raw_dtype=kind)
            rounded[name] = torch.from_numpy(quants.dequantize(blocks, kind))
        else:
            writer.add_tensor(name, value.numpy())
            rounded[name] = value.contiguous()
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    save_file(rounded, tmp_path / "rounded.safetensors")
    packed = loaded(tmp_path / "z.gguf", parts)
    assert packed.info.quantisation == "gguf"
    wanted = pass_of(loaded(tmp_path / "rounded.safetensors", parts))
    torch.testing.assert_close(pass_of(packed), wanted, atol=1e-5, rtol=1e-5)


def test_a_text_encoder_of_another_width_is_named(models: dict[str, tiny.TinyQwen], tmp_path: Path) -> None:
    path, parts = described(tmp_path, models["z_image"])
    wide = {name: torch.cat([value, value], -1) for name, value in load_file(path).items() if "cap_embedder" in name}
    wide["cap_embedder.1.bias"] = load_file(path)["cap_embedder.1.bias"]
    save_file({**load_file(path), **wide}, tmp_path / "wide.safetensors")
    with pytest.raises(UnsupportedCheckpoint, match=r"z_image_text_encoder gives texts a width of 16 .* needs 32"):
        loaded(tmp_path / "wide.safetensors", parts)


@pytest.mark.parametrize("family", KINDS)
def test_the_end_takes_all_weights_along(family: str, models: dict[str, tiny.TinyQwen], tmp_path: Path) -> None:
    model = loaded(*described(tmp_path, models[family]))
    networks = [*model._parts, *model._autoencoder.modules]  # type: ignore[attr-defined]
    assert len(networks) == 3
    model.close()
    assert all(value.is_meta for network in networks for value in network.parameters())
