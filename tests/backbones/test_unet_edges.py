"""What the UNet families refuse, and what they do where precision or parts are short."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from safetensors.torch import load_file, save_file
from torch import Tensor

from modules.backbones.autoencoder import Autoencoder, Scaled
from modules.backbones.sd2 import sd2
from modules.backbones.sdxl import sdxl
from modules.backbones.unet import UnetModel, levels_of
from modules.backbones.upcast_attention import UpcastAttention, upcast_attention
from modules.core.checkpoint import ModelInfo, Separate, read_header
from modules.core.errors import UnsupportedCheckpoint
from modules.core.family import Family, recognise
from modules.core.plugin import collect
from modules.core.sampling import LAST_ALPHA_BAR
from modules.engine.forward import joined
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae
from tests.backbones.unet_files import write_original
from tests.backbones.unets import FP32, GROUPS, SD2, SDXL, Kind, info, latent, networks
from tests.passes import denoise

REFINER = replace(SDXL, name="refiner", variant="refiner", texts=(("text_encoder_2", "clip_g"),), numbers=5)


def described(path: Path) -> ModelInfo:
    return recognise(read_header(path), collect("modules.families", Family, group="inferenz.families"))


def written(kind: Kind, folder: Path) -> Path:
    return write_original(kind, networks(kind), folder / f"{kind.name}.safetensors")


def loaded(kind: Kind, folder: Path, **where: Any) -> UnetModel:
    load = {"sd2": sd2, "sdxl": sdxl}[kind.family].load
    model = load(described(written(kind, folder)), Separate(), replace(FP32, **where))
    assert isinstance(model, UnetModel)
    return model


def predicted(model: UnetModel) -> Tensor:
    return denoise(model, latent() * 3, torch.tensor([3.0]), model.encode(["a (red:1.2) apple"], 1)[0])


def test_noise_levels_follow_the_schedulers_configuration() -> None:
    plain = info(SDXL, {})

    def told(prediction: str = "v", **config: Any) -> ModelInfo:
        return replace(plain, prediction=prediction, config={"scheduler": config})

    usual = levels_of(told())
    assert (usual.prediction, usual.family, len(usual.sigmas)) == ("v", "sdxl", 1000)
    assert usual.sigma_max == pytest.approx(14.6146, abs=1e-4)
    for rescaled in (told(zero_terminal_snr=True), told(rescale_betas_zero_snr=True)):
        last = levels_of(rescaled).sigma_max
        assert 1 / (last**2 + 1) == pytest.approx(LAST_ALPHA_BAR)
    assert levels_of(told("epsilon", zero_terminal_snr=True)).sigma_max == pytest.approx(14.6146, abs=1e-4)
    assert levels_of(told(beta_end=0.02)).sigma_max > 14.7
    with pytest.raises(UnsupportedCheckpoint, match=r"sdxl was trained on betas of the kind 'squaredcos_cap_v2'"):
        levels_of(told(beta_schedule="squaredcos_cap_v2"))


def test_the_refiner_is_told_how_well_pictures_are_liked(tmp_path: Path) -> None:
    """Its negative rows are told less; the base's are told the same."""
    for kind, differs in ((REFINER, True), (SDXL, False)):
        model = loaded(kind, tmp_path)
        text = joined(model.encode(["a", "a"], 1))
        x, sigmas = latent().expand(2, -1, -1, -1) * 3, torch.full((2,), 3.0)
        one, other = denoise(model, x, sigmas, text, negative=(True, False))
        assert (float((one - other).abs().max()) > 1e-4) is differs


def test_parts_of_sdxl_from_files_of_their_own(tmp_path: Path) -> None:
    whole = written(SDXL, tmp_path)
    wanted = predicted(loaded(SDXL, tmp_path))
    bare = copied(whole, tmp_path / "bare.safetensors", "model.diffusion_model.")
    files = {
        "text_encoder": copied(whole, tmp_path / "clip_l.safetensors", "conditioner.embedders.0."),
        "text_encoder_2": copied(whole, tmp_path / "clip_g.safetensors", "conditioner.embedders.1.", "text_encoder_2"),
        "vae": copied(whole, tmp_path / "vae.safetensors", "first_stage_model."),
    }
    parts = {
        name: (identify_vae if name == "vae" else identify_text_encoder)(read_header(file))
        for name, file in files.items()
    }
    model = sdxl.load(described(bare), Separate(**parts), FP32)
    assert isinstance(model, UnetModel)
    assert float((predicted(model) - wanted).abs().max()) < 1e-5
    assert float((predicted(model.upcast()) - wanted).abs().max()) < 1e-5
    assert model._autoencoder._scaled == Scaled(scaling=0.13025)
    for left_out, says in (
        ("vae", "bare has no VAE of its own"),
        ("text_encoder_2", "bare has no CLIP-G text encoder of its own"),
    ):
        fewer = {name: part for name, part in parts.items() if name != left_out}
        with pytest.raises(UnsupportedCheckpoint, match=says):
            sdxl.load(described(bare), Separate(**fewer), FP32)
    with pytest.raises(UnsupportedCheckpoint, match="clip_l gives texts a width of 32 where bare needs 40"):
        sdxl.load(described(bare), Separate(**{**parts, "text_encoder_2": parts["text_encoder"]}), FP32)
    other = replace(parts["text_encoder_2"], name="other")
    with pytest.raises(UnsupportedCheckpoint, match="other and clip_g give texts a width of 48 where bare needs 40"):
        sdxl.load(described(bare), Separate(**{**parts, "text_encoder": other}), FP32)
    for name, kind, needed in (("text_encoder", "t5", "a CLIP-L text encoder"), ("vae", "kl16", "a VAE")):
        foreign = replace(parts[name], name="foreign", variant=kind)
        with pytest.raises(UnsupportedCheckpoint, match=f"foreign does not fit bare, which needs {needed}"):
            sdxl.load(described(bare), Separate(**{**parts, name: foreign}), FP32)


def copied(whole: Path, path: Path, prefix: str, component: str = "text_encoder") -> Path:
    """The tensors with that prefix alone; component: which one's dimensions the file tells as its text encoder's."""
    told = dict(read_header(whole).metadata)
    config = json.loads(told["config"])
    told["config"] = json.dumps({**config, "text_encoder": config[component]})
    save_file({n: t for n, t in load_file(whole).items() if n.startswith(prefix)}, path, metadata=told)
    return path


def test_attention_in_float16_is_upcast_where_products_overflow(tmp_path: Path) -> None:
    """What diffusers' attention computes in float32, ours does to float16's rounding, and stays finite."""
    unet = networks(SD2)["unet"]
    layer = next(each for each in unet.modules() if isinstance(each, Attention))
    x = torch.randn(2, 12, layer.to_q.in_features, generator=torch.Generator().manual_seed(0))
    plain = AttnProcessor2_0()(layer, x)
    assert torch.allclose(UpcastAttention()(layer, x), plain, atol=1e-6)
    upcast_attention(unet, replace(FP32, dtype=torch.float32))
    assert not any(isinstance(each.processor, UpcastAttention) for each in attentions(unet))
    upcast_attention(unet, replace(FP32, dtype=torch.float16))
    assert all(isinstance(each.processor, UpcastAttention) for each in attentions(unet))
    layer.to_q.weight *= 3000
    layer.to_k.weight *= 3000
    unet.half()
    assert UpcastAttention()(layer, x.half()).isfinite().all()


def attentions(unet: UNet2DConditionModel) -> list[Any]:
    return [each for each in unet.modules() if isinstance(each, Attention)]


def test_v_prediction_of_sd2_attends_in_float32(tmp_path: Path) -> None:
    half = loaded(replace(SD2, name="v", prediction="v"), tmp_path, dtype=torch.float16)
    assert all(isinstance(each.processor, UpcastAttention) for each in attentions(half._unet))
    plain = loaded(SD2, tmp_path, dtype=torch.float16)
    assert not any(isinstance(each.processor, UpcastAttention) for each in attentions(plain._unet))


def test_encoding_a_picture_goes_on_in_float32_where_float16_overflows() -> None:
    """A VAE whose first layer is scaled past float16's range, and its last one back."""
    vae: AutoencoderKL = networks(SDXL)["vae"]
    vae.encoder.conv_in.weight *= 1e6
    half = replace(FP32, vae_dtype=torch.float16)
    rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    low = copy.deepcopy(vae).half()
    found = Autoencoder(low, half, scaled=Scaled(scaling=0.13025), load=lambda _: vae)
    wanted = Autoencoder(vae, FP32, scaled=Scaled(scaling=0.13025), load=lambda _: vae)
    assert not low.encode(rgb.half() * 2 - 1).latent_dist.mean.isfinite().all()
    assert torch.equal(found.encode(rgb), wanted.encode(rgb))


def test_playgrounds_latents_are_its_own_with_any_vae(tmp_path: Path) -> None:
    """A VAE of its own file, whose configuration is SDXL's, is used with the checkpoint's mean and deviation."""
    kind = replace(SDXL, name="playground", prediction="edm", edm="playground")
    told = described(written(kind, tmp_path))
    tensors = {name: value.contiguous() for name, value in networks(kind)["vae"].state_dict().items()}
    config = {"config": json.dumps({"vae": {"norm_num_groups": GROUPS, "scaling_factor": 0.13025}})}
    save_file(tensors, tmp_path / "vae.safetensors", metadata=config)
    alone = identify_vae(read_header(tmp_path / "vae.safetensors"))
    own, chosen = (sdxl.load(told, separate, FP32) for separate in (Separate(), Separate(vae=alone)))
    assert torch.allclose(own.decode(latent()), chosen.decode(latent()), atol=1e-6)
    assert not torch.allclose(own.decode(latent()), own.decode(latent() * 1.01), atol=1e-4)
