"""SD3, Flux and Chroma as loaded models: texts, parts from files of their own, precision, VAE, levels."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FluxFillPipeline
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.torch import load_file, save_file
from torch import Tensor

from modules.backbones.chroma import chroma
from modules.backbones.flux import flux
from modules.backbones.packed.linear import PackedLinear
from modules.backbones.sd3 import sd3
from modules.core.checkpoint import ModelInfo, Separate, read_header
from modules.core.errors import RequestError, UnsupportedCheckpoint
from modules.core.family import Family, recognise
from modules.core.operations import Text
from modules.core.plugin import collect
from modules.diffusion.backbone import Backbone
from modules.engine.forward import joined
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae
from tests import original
from tests import tiny_dits as tiny
from tests.engine.small import placement
from tests.passes import denoise

LOADERS = {"flux": flux, "chroma": chroma, "sd3": sd3}


def described(path: Path) -> ModelInfo:
    return recognise(read_header(path), collect("modules.families", Family, group="inferenz.families"))


def loaded(path: Path, separate: Separate[ModelInfo] | None = None, dtype: torch.dtype = torch.float32) -> Any:
    info = described(path)
    return LOADERS[info.family].load(info, separate or Separate(), placement(dtype))


def pass_of(model: Backbone, text: Text, *, side: int = 8, sigma: float = 0.7, **fields: Any) -> Tensor:
    x = torch.randn(len(text.tokens), tiny.LATENT, side, side, generator=torch.Generator().manual_seed(1))
    return denoise(model, x, torch.full((len(x),), sigma), text, **fields)


@pytest.mark.parametrize("family", ["flux", "chroma", "sd3"])
def test_parts_may_lie_in_files_of_their_own(family: str, tmp_path: Path) -> None:
    model = tiny.tiny_model(family)
    whole = loaded(model.write(tmp_path / "whole.safetensors"))
    texts = [name for name in model.parts if name.startswith("text_encoder")]
    alone = {name: identify_text_encoder(read_header(model.write_part(tmp_path, name))) for name in texts}
    alone["vae"] = identify_vae(read_header(model.write_part(tmp_path, "vae")))
    bare = loaded(model.write(tmp_path / "bare.safetensors", without=[*texts, "vae"]), Separate(**alone))
    (one,), (other,) = whole.encode(["a red apple"], 1), bare.encode(["a red apple"], 1)
    torch.testing.assert_close(one.tokens, other.tokens)
    torch.testing.assert_close(pass_of(whole, one), pass_of(bare, other))
    latent = torch.randn(1, tiny.LATENT, 8, 8)
    torch.testing.assert_close(whole.decode(latent), bare.decode(latent))


@pytest.mark.parametrize(
    ("family", "without", "says"),
    [
        ("flux", "vae", "VAE"), ("flux", "text_encoder", "CLIP-L"), ("flux", "text_encoder_2", "T5"),
        ("chroma", "text_encoder", "T5"), ("sd3", "text_encoder_2", "CLIP-G"),
    ],
)  # fmt: skip
def test_a_missing_part_is_named_with_what_would_fit(family: str, without: str, says: str, tmp_path: Path) -> None:
    path = tiny.tiny_model(family).write(tmp_path / "mine.safetensors", without=[without])
    with pytest.raises(UnsupportedCheckpoint, match=f"mine has no {says}") as raised:
        loaded(path)
    assert ".safetensors" in str(raised.value.hint)


def test_a_part_of_another_kind_is_refused(tmp_path: Path) -> None:
    model = tiny.tiny_model("flux")
    clip = identify_text_encoder(read_header(model.write_part(tmp_path, "text_encoder")))
    with pytest.raises(UnsupportedCheckpoint, match="text_encoder does not fit mine, which needs a T5"):
        loaded(model.write(tmp_path / "mine.safetensors"), Separate(text_encoder_2=clip))


def test_a_text_encoder_of_another_width_is_refused(tmp_path: Path) -> None:
    model = tiny.tiny_model("chroma")
    other = replace(model, parts={"text_encoder": tiny.tiny_t5(width=32)})
    t5 = identify_text_encoder(read_header(other.write_part(tmp_path, "text_encoder")))
    with pytest.raises(UnsupportedCheckpoint, match="text_encoder gives texts a width of 32 where mine needs 24"):
        loaded(model.write(tmp_path / "mine.safetensors"), Separate(text_encoder=t5))


def test_sd3_takes_zeros_where_there_is_no_t5(tmp_path: Path) -> None:
    model = tiny.tiny_model("sd3")
    whole = loaded(model.write(tmp_path / "whole.safetensors"))
    without = loaded(model.write(tmp_path / "without.safetensors", without=["text_encoder_3"]))
    (one,), (other,) = whole.encode(["a red apple"], 1), without.encode(["a red apple"], 1)
    assert one.tokens.shape == other.tokens.shape == (1, 77 + 256, tiny.T5)
    torch.testing.assert_close(one.tokens[:, :77], other.tokens[:, :77])
    assert not other.tokens[:, 77:].any()
    assert bool(pass_of(without, other).isfinite().all())


def test_sd3_reads_prompts_longer_than_a_chunk(tmp_path: Path) -> None:
    model = loaded(tiny.tiny_model("sd3").write(tmp_path / "m.safetensors"))
    (text,) = model.encode(["apple " * 100], 1)
    assert text.length == 2 * 77 + 256
    assert bool(pass_of(model, text).isfinite().all())


def test_sd3_knows_places_up_to_its_table(tmp_path: Path) -> None:
    model = loaded(tiny.tiny_model("sd3").write(tmp_path / "m.safetensors"))
    assert model.noise_levels(192, 64).sigmas[499] == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    with pytest.raises(RequestError, match="height"):
        model.noise_levels(64, 200)


def test_flux_levels_lean_by_the_size_or_as_told(tmp_path: Path) -> None:
    model = loaded(tiny.tiny_model("flux").write(tmp_path / "m.safetensors"))

    def shift(*told: Any) -> float:
        t = model.noise_levels(*told).sigmas[499]
        return float(t / (1 - t))  # the middle, 0.5, becomes shift / (1 + shift)

    assert shift(256, 256) == pytest.approx(math.exp(0.5))
    assert shift(1024, 1024) == pytest.approx(math.exp(1.15))
    assert shift(1024, 1024, 2.0) == pytest.approx(2.0)
    schnell = loaded(tiny.tiny_model("flux", dev=False).write(tmp_path / "s.safetensors"))
    assert schnell.noise_levels(1024, 1024).sigmas[499] == pytest.approx(0.5)


def test_chroma_reads_no_more_of_what_fills_a_text_up_than_it_attends_to(tmp_path: Path) -> None:
    model = loaded(tiny.tiny_model("chroma").write(tmp_path / "m.safetensors"))
    (short,) = model.encode(["a red apple"], 1)
    whole = model._t5.encode("a red apple")
    assert whole.hidden.shape[1] == 512
    assert short.length == int(whole.mask.sum())
    full = Text(whole.hidden, mask=whole.mask, joins="pad")
    torch.testing.assert_close(pass_of(model, short), pass_of(model, full), atol=1e-5, rtol=1e-5)


def test_chroma_texts_of_unequal_length_share_a_pass(tmp_path: Path) -> None:
    model = loaded(tiny.tiny_model("chroma").write(tmp_path / "m.safetensors"))
    texts = model.encode(["a red apple", "", "a long story " * 30], 1)
    together = pass_of(model, joined(texts))
    x = torch.randn(3, tiny.LATENT, 8, 8, generator=torch.Generator().manual_seed(1))
    for n, text in enumerate(texts):
        alone = denoise(model, x[n : n + 1], torch.tensor([0.7]), text)
        torch.testing.assert_close(together[n : n + 1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["flux", "chroma", "sd3"])
def test_odd_sides_are_filled_up_and_cut(family: str, tmp_path: Path) -> None:
    model = loaded(tiny.tiny_model(family).write(tmp_path / "m.safetensors"))
    (text,) = model.encode(["a red apple"], 1)
    x = torch.randn(1, tiny.LATENT, 7, 9)
    odd = denoise(model, x, torch.tensor([0.6]), text)
    whole = torch.cat([x, x[..., :1]], -1)
    whole = torch.cat([whole, whole[..., :1, :]], -2)
    torch.testing.assert_close(odd, denoise(model, whole, torch.tensor([0.6]), text)[..., :7, :9])


@pytest.mark.parametrize("family", ["flux", "chroma", "sd3"])
def test_half_precision_is_near_and_can_be_had_in_full(family: str, tmp_path: Path) -> None:
    path = tiny.tiny_model(family).write(tmp_path / "m.safetensors")
    exact, half = loaded(path), loaded(path, dtype=torch.bfloat16)
    again = half.upcast()
    (text,), (coarse,), (fine,) = (model.encode(["a red apple"], 1) for model in (exact, half, again))
    assert coarse.tokens.dtype == torch.bfloat16
    assert torch.equal(text.tokens, fine.tokens)
    assert torch.equal(pass_of(exact, text), pass_of(again, fine))
    told: Any = {"sigma": 0.5, "distilled": (4.0,)}  # bfloat16 holds their thousandfold, and rounds 750 to 752
    assert float((pass_of(exact, text, **told) - pass_of(half, coarse, **told)).abs().mean()) < 0.05


@pytest.mark.parametrize("family", ["flux", "chroma", "sd3"])
def test_pictures_are_encoded_as_diffusers_does(family: str, tmp_path: Path) -> None:
    made = tiny.tiny_model(family)
    model = loaded(made.write(tmp_path / "m.safetensors"))
    picture = torch.rand(1, 3, 64, 80)
    vae: AutoencoderKL = made.vae
    with torch.inference_mode():
        mode = vae.encode(picture * 2 - 1).latent_dist.mode()
        latent = (mode - vae.config.shift_factor) * vae.config.scaling_factor
        theirs = vae.decode(latent / vae.config.scaling_factor + vae.config.shift_factor).sample / 2 + 0.5
    torch.testing.assert_close(model.encode_picture(picture), latent, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.decode(latent), theirs.clamp(0, 1), atol=1e-5, rtol=1e-5)


def test_a_picture_in_tiles_is_near_to_the_whole(tmp_path: Path) -> None:
    model = loaded(tiny.tiny_model("flux").write(tmp_path / "m.safetensors"))
    latent = torch.nn.functional.interpolate(torch.randn(1, tiny.LATENT, 20, 20), (40, 40), mode="bilinear")
    whole, tiled = model.decode(latent), model.decode(latent, tiled=True)
    assert whole.shape == tiled.shape
    near, far = (whole - tiled).abs().mean(), (whole - whole.flip(-1)).abs().mean()
    assert 0 < float(near) < 0.3 * float(far)  # each tile is normalised by itself, under weights that mean nothing


def test_fill_sees_a_mask_of_everything_where_a_picture_is_made_of_nothing(tmp_path: Path) -> None:
    made = tiny.tiny_model("flux", channels=16 + 16 + 64)
    model = loaded(made.write(tmp_path / "m.safetensors"))
    assert model.info.variant == "fill"
    (text,) = model.encode(["a red apple"], 1)
    grey = torch.zeros(1, 3, 64, 64)  # in -1..1
    fill: Any = FluxFillPipeline
    with torch.inference_mode():
        latent = (made.vae.encode(grey).latent_dist.mode() - 0.1159) * 0.3611
    told = torch.cat([latent, torch.ones(1, 64, 8, 8)], 1)
    torch.testing.assert_close(pass_of(model, text), pass_of(model, text, channels=told), atol=1e-5, rtol=1e-5)
    packed = torch.cat([fill._pack_latents(part, 1, part.shape[1], 8, 8) for part in (latent, told[:, 16:])], -1)
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        output = made.transformer(
            hidden_states=torch.cat([fill._pack_latents(x, 1, 16, 8, 8), packed], -1), timestep=torch.tensor([0.7]),
            guidance=torch.tensor([30.0]), pooled_projections=text.pooled, encoder_hidden_states=text.tokens,
            txt_ids=torch.zeros(text.length, 3), return_dict=False,
            img_ids=fill._prepare_latent_image_ids(1, 4, 4, x.device, x.dtype),
        )[0]  # fmt: skip
    theirs = x - 0.7 * fill._unpack_latents(output, 64, 64, 8)
    torch.testing.assert_close(pass_of(model, text), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["flux", "chroma", "sd3"])
def test_the_end_takes_all_weights_along(family: str, tmp_path: Path) -> None:
    model = loaded(tiny.tiny_model(family).write(tmp_path / "m.safetensors"))
    networks = list(model._parts)
    assert model.weight_bytes > 1000
    model.close()
    assert all(value.is_meta for network in networks for value in network.parameters())


@pytest.mark.parametrize("family", ["flux", "chroma", "sd3"])
def test_weights_of_eight_bits_stay_so_and_compute_as_what_they_stand_for(family: str, tmp_path: Path) -> None:
    """The transformer alone in fp8, as such files are spread; parts of fused matrices included."""
    made = tiny.tiny_model(family)
    exact = loaded(made.write(tmp_path / "exact.safetensors"))
    path = tmp_path / "fp8.safetensors"
    small = {
        name: value.to(torch.float8_e4m3fn) if name.startswith("model.diffusion_model.") and value.dim() == 2 else value
        for name, value in load_file(tmp_path / "exact.safetensors").items()
    }
    save_file(small, path, metadata=dict(read_header(tmp_path / "exact.safetensors").metadata))
    packed = loaded(path)
    assert packed.info.quantisation == "fp8"
    assert packed.weight_bytes < exact.weight_bytes
    rounded = {name: value.float() for name, value in small.items()}
    save_file(rounded, tmp_path / "rounded.safetensors", metadata=dict(read_header(path).metadata))
    (text,) = exact.encode(["a red apple"], 1)
    wanted = pass_of(loaded(tmp_path / "rounded.safetensors"), text)
    torch.testing.assert_close(pass_of(packed, text), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["flux", "chroma", "sd3"])
def test_a_denoiser_is_kept_in_eight_bits_where_that_is_asked(family: str, tmp_path: Path) -> None:
    info = described(tiny.tiny_model(family).write(tmp_path / "a.safetensors"))
    frugal: Any = LOADERS[family].load(info, Separate(), replace(placement(), storage="fp8"))
    plain = loaded(tmp_path / "a.safetensors")
    layers = [module for module in frugal._transformer.modules() if isinstance(module, PackedLinear)]
    assert layers
    assert frugal.weight_bytes < plain.weight_bytes
    (text,) = plain.encode(["a red apple"], 1)
    close, exact = pass_of(frugal, text), pass_of(plain, text)
    assert not torch.equal(close, exact)
    assert float((close - exact).abs().mean() / exact.abs().mean()) < 0.1


def test_a_transformer_alone_in_gguf_computes_with_its_parts_from_files(tmp_path: Path) -> None:
    """As Flux is spread most: the transformer in 8 bits, parts from files of their own."""
    made = tiny.tiny_model("flux")
    writer = GGUFWriter(tmp_path / "flux.gguf", "flux")
    kind = GGMLQuantizationType.Q8_0
    rounded: dict[str, Tensor] = {}
    for name, value in original.flux(made.transformer.state_dict()).items():
        if value.dim() == 2 and value.shape[1] % 32 == 0:
            blocks = quants.quantize(value.numpy(), kind)
            writer.add_tensor(name, blocks, raw_dtype=kind)
            rounded[name] = torch.from_numpy(quants.dequantize(blocks, kind))
        else:
            writer.add_tensor(name, value.numpy())
            rounded[name] = value
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    save_file({name: value.contiguous() for name, value in rounded.items()}, tmp_path / "rounded.safetensors")
    texts = {
        name: identify_text_encoder(read_header(made.write_part(tmp_path, name)))
        for name in ("text_encoder", "text_encoder_2")
    }
    parts = Separate(**texts, vae=identify_vae(read_header(made.write_part(tmp_path, "vae"))))
    packed, wanted = loaded(tmp_path / "flux.gguf", parts), loaded(tmp_path / "rounded.safetensors", parts)
    assert packed.info.quantisation == "gguf"
    (text,) = packed.encode(["a red apple"], 1)
    torch.testing.assert_close(pass_of(packed, text), pass_of(wanted, text), atol=1e-5, rtol=1e-5)
