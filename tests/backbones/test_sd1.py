"""Stable Diffusion 1 loaded and computed with: against diffusers' own classes, converters and scheduler."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from modules.backbones.encoders.clip import clip_tokenizer
from modules.backbones.sd1 import load_sd1
from modules.backbones.unet import UnetModel
from modules.core.checkpoint import ModelInfo, Separate, read_header
from modules.core.errors import CorruptCheckpoint, RequestError, UnsupportedCheckpoint
from modules.core.family import Family, identify
from modules.core.generation import Emphasis
from modules.core.plugin import collect
from modules.diffusion.arena import HostPool
from modules.diffusion.backbone import Placement
from modules.families.layouts.names import ema_names, unet_names, vae_names
from modules.families.vae import identify_vae
from tests.passes import denoise, encoded
from tests.tiny import GROUPS, HEADS, NATIVE, write_tiny_sd1

HEADERS = Path(__file__).parents[1] / "families" / "headers"
STARTER = Path(__file__).parents[2] / "models" / "Stable-diffusion" / "inferenz-starter.safetensors"
CPU = torch.device("cpu")
FP32 = Placement(
    device=CPU, dtype=torch.float32, vae_dtype=torch.float32, text_device=CPU, unet_device=CPU, vae_device=CPU
)


def describe(path: Path) -> ModelInfo:
    return identify(read_header(path), collect("modules.families", Family, group="inferenz.families"))


@pytest.fixture(scope="module")
def starter() -> UnetModel:
    return load_sd1(describe(STARTER), None, FP32)


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """The starter in diffusers' classes, its configuration written out by hand, its names by diffusers' converters."""
    file = {name: tensor.float() for name, tensor in load_file(STARTER).items() if tensor.is_floating_point()}
    unet = UNet2DConditionModel(
        block_out_channels=(64, 128, 192), layers_per_block=1, cross_attention_dim=96, attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), sample_size=16,
    )  # fmt: skip
    unet.load_state_dict(convert_ldm_unet_checkpoint(file, unet.config))
    vae = AutoencoderKL(
        block_out_channels=(64, 64, 96, 128), layers_per_block=1, latent_channels=4, sample_size=128,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    vae.load_state_dict(convert_ldm_vae_checkpoint(file, vae.config))
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=96, intermediate_size=384, num_hidden_layers=3, num_attention_heads=12,
            bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
        )
    )  # fmt: skip
    prefix = "cond_stage_model.transformer."
    levels = any(name.startswith("text_model.") for name in text.state_dict())
    names = {n: n.removeprefix(prefix if levels else f"{prefix}text_model.") for n in file if n.startswith(prefix)}
    text.load_state_dict({new: file[old] for old, new in names.items()})
    return {"unet": unet.eval(), "vae": vae.eval(), "text_encoder": text.eval()}


def test_encoding_equals_transformers(starter: UnetModel, reference: dict[str, Any]) -> None:
    text = "a red apple on a blue background"
    ids = torch.tensor([clip_tokenizer().chunks(text)[0].ids])
    with torch.no_grad():
        answer = reference["text_encoder"](ids, output_hidden_states=True)
        skipped = reference["text_encoder"].final_layer_norm(answer.hidden_states[-2])
    assert torch.allclose(encoded(starter, [text], 1)[0], answer.last_hidden_state, atol=1e-5)
    assert torch.allclose(encoded(starter, [text], 2)[0], skipped, atol=1e-5)


def test_long_prompts_are_encoded_in_chunks(starter: UnetModel) -> None:
    long = ", ".join(["a red apple"] * 40)
    assert len(starter.tokens(long)) == 3
    assert encoded(starter, [long, ""], 1)[0].shape == (1, 3 * 77, 96)


def test_an_encoding_does_not_depend_on_its_company(starter: UnetModel) -> None:
    alone = encoded(starter, ["a cat"], 1)[0]
    assert torch.equal(encoded(starter, ["a dog, " * 30, "a cat"], 1)[1], alone)


@pytest.mark.parametrize("skip", [0, 4, -1])
def test_a_clip_skip_past_the_layers_is_refused(skip: int, starter: UnetModel) -> None:
    with pytest.raises(RequestError, match="1 to 3"):
        encoded(starter, ["a cat"], skip)


def test_emphasis_modes(starter: UnetModel) -> None:
    """Ignore reads the brackets and weighs nothing; None takes them for text, as the token counts tell."""
    plain, weighed = "a red apple", "a (red:1.6) apple"
    (base,) = encoded(starter, [plain], 1)
    original, no_norm, ignored, text = (encoded(starter, [weighed], 1, mode)[0] for mode in get_args(Emphasis))
    assert torch.equal(ignored, base)
    torch.testing.assert_close(no_norm[0, 2], base[0, 2] * 1.6)
    assert torch.equal(no_norm[0, 3], base[0, 3])
    torch.testing.assert_close(original * (no_norm.mean() / original.mean()), no_norm, atol=1e-4, rtol=1e-4)
    assert starter.tokens(weighed, "Ignore") == starter.tokens(plain)
    assert sum(map(len, starter.tokens(weighed, "None"))) > sum(map(len, starter.tokens(plain)))
    assert not torch.allclose(text, base)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' scheduler, numpy 2
def test_a_picture_equals_the_pipelines(starter: UnetModel, reference: dict[str, Any]) -> None:
    """Ten Euler steps with guidance at the integral timesteps of diffusers' "linspace", against its whole pipeline."""
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace", steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        **reference, tokenizer=None, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    text, none = encoded(starter, ["a red apple on a blue background", ""], 1)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    wanted = pipeline(
        prompt_embeds=text, negative_prompt_embeds=none, latents=noise, num_inference_steps=10, guidance_scale=4.0,
        width=128, height=128, output_type="pt",
    ).images  # fmt: skip
    sigmas = [starter.noise_levels(512, 512).sigma(111.0 * k) for k in range(9, -1, -1)] + [0.0]
    assert torch.allclose(torch.tensor(sigmas), scheduler.sigmas, atol=1e-5)
    x = noise * sigmas[0]
    for sigma, following in pairwise(sigmas):
        both = denoise(starter, torch.cat([x, x]), torch.full((2,), sigma), torch.cat([none, text]))
        denoised = both[:1] + 4.0 * (both[1:] - both[:1])
        x = x + (following - sigma) / sigma * (x - denoised)
    picture = starter.decode(x)
    assert picture.shape == (1, 3, 128, 128)
    assert float((picture - wanted).abs().max()) < 1e-4


def test_a_v_prediction_model_inverts_its_own_definition(tmp_path: Path) -> None:
    """For v = alpha * n - sigma' * x0 with alpha = 1 / sqrt(sigma^2 + 1) the x0 that made it comes back."""
    from modules.diffusion.parameterisation import to_denoised

    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 4, 8, 8, generator=generator)
    sigmas = torch.tensor([0.3, 9.0])
    level = sigmas.reshape(-1, 1, 1, 1)
    alpha, spread = 1 / (level**2 + 1).sqrt(), level / (level**2 + 1).sqrt()
    v = alpha * noise - spread * clean
    assert torch.allclose(to_denoised("v", clean + level * noise, v, sigmas), clean, atol=1e-5)
    assert torch.allclose(to_denoised("epsilon", clean + level * noise, noise, sigmas), clean, atol=1e-5)
    model = load_sd1(describe(write_tiny_sd1(tmp_path / "v.safetensors", prediction="v_prediction")), None, FP32)
    assert model.noise_levels(512, 512).prediction == "v"


def test_rows_of_a_batch_equal_single_rows(starter: UnetModel) -> None:
    x = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(2)) * 5
    text = encoded(starter, ["a cat"], 1)[0]
    sigmas = torch.tensor([10.0, 3.0, 0.2])
    together = denoise(starter, x, sigmas, text.expand(3, -1, -1))
    single = torch.cat([denoise(starter, x[i : i + 1], sigmas[i : i + 1], text) for i in range(3)])
    assert float((together - single).abs().max()) < 1e-4


def test_both_layouts_load_the_same_model(tmp_path: Path) -> None:
    original = load_sd1(describe(write_tiny_sd1(tmp_path / "o.safetensors")), None, FP32)
    diffusers = load_sd1(describe(write_tiny_sd1(tmp_path / "d.safetensors", layout="diffusers")), None, FP32)
    assert close(one_picture(original), one_picture(diffusers))
    assert original.weight_bytes == diffusers.weight_bytes > 1_000_000


def close(one: Tensor, other: Tensor) -> bool:
    """Equal to rounding: kernels round by how a mapped weight is aligned, so two files differ in last bits."""
    return float((one - other).abs().max()) < 1e-5


def one_picture(model: UnetModel) -> Tensor:
    x = torch.randn(1, 4, NATIVE // 8, NATIVE // 8, generator=torch.Generator().manual_seed(3)) * 3
    return model.decode(denoise(model, x, torch.tensor([3.0]), encoded(model, ["(hello:1.3) world"], 1)[0]))


@pytest.mark.parametrize("recorded", ["sd1-original", "starter"])
def test_names_are_translated_as_diffusers_does(recorded: str) -> None:
    """Each translated name holds the very tensor that diffusers' converter puts there."""
    if recorded == "starter":
        shapes = {name: list(info.shape) for name, info in read_header(STARTER).tensors.items()}
    else:
        shapes = json.loads(gzip.decompress((HEADERS / f"{recorded}.json.gz").read_bytes()))
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    layers = 1 if recorded == "starter" else 2
    converted = convert_ldm_unet_checkpoint(dict(tensors), {"layers_per_block": layers})
    prefix = "model.diffusion_model."
    ours = unet_names(name.removeprefix(prefix) for name in shapes if name.startswith(prefix))
    assert {new: id(tensors[prefix + old]) for new, old in ours.items()} == {n: id(t) for n, t in converted.items()}
    config = {"down_block_types": [""] * 4, "up_block_types": [""] * 4}
    converted = convert_ldm_vae_checkpoint(dict(tensors), config)
    prefix = "first_stage_model."
    assert set(vae_names(n.removeprefix(prefix) for n in shapes if n.startswith(prefix))) == set(converted)


def test_names_of_averages_are_read_back() -> None:
    shapes = json.loads(gzip.decompress((HEADERS / "sd1-ema-and-weights.json.gz").read_bytes()))
    averages = [name for name in shapes if name.startswith("model_ema.")]
    wanted = {
        name.removeprefix("model.diffusion_model.") for name in shapes if name.startswith("model.diffusion_model.")
    }
    assert set(ema_names(averages)) == wanted


def test_a_file_with_averages_alone_uses_them(tmp_path: Path) -> None:
    whole = write_tiny_sd1(tmp_path / "whole.safetensors")
    header, tensors = read_header(whole), load_file(whole)
    renamed = {
        "model_ema." + name.removeprefix("model.").replace(".", "") if name.startswith("model.") else name: tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, tmp_path / "ema.safetensors", metadata=dict(header.metadata))
    ema = load_sd1(describe(tmp_path / "ema.safetensors"), None, FP32)
    assert close(one_picture(ema), one_picture(load_sd1(describe(whole), None, FP32)))


def test_harmless_extras_are_let_pass_and_unknown_parameters_named(tmp_path: Path) -> None:
    path = write_tiny_sd1(tmp_path / "a.safetensors")
    metadata, tensors = dict(read_header(path).metadata), load_file(path)
    extras = {
        "alphas_cumprod": torch.ones(1000),
        "model_ema.decay": torch.ones(()),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77).unsqueeze(0),
    }
    save_file({**tensors, **extras}, tmp_path / "b.safetensors", metadata=metadata)
    load_sd1(describe(tmp_path / "b.safetensors"), None, FP32)
    strange = {"model.diffusion_model.middle_block.1.gadget.weight": torch.ones(4)}
    save_file({**tensors, **strange}, tmp_path / "c.safetensors", metadata=metadata)
    with pytest.raises(CorruptCheckpoint, match=r"unknown: model\.diffusion_model\.middle_block\.1\.gadget"):
        load_sd1(describe(tmp_path / "c.safetensors"), None, FP32)


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    path = write_tiny_sd1(tmp_path / "a.safetensors")
    tensors = load_file(path)
    tensors["model.diffusion_model.out.0.weight"] = torch.ones(12)
    save_file(tensors, tmp_path / "b.safetensors", metadata=dict(read_header(path).metadata))
    with pytest.raises(CorruptCheckpoint, match=r"out\.0\.weight has the shape \[12\] where \[8\] belongs"):
        load_sd1(describe(tmp_path / "b.safetensors"), None, FP32)


def test_a_separate_vae_replaces_the_models_own(tmp_path: Path) -> None:
    whole = write_tiny_sd1(tmp_path / "a.safetensors", seed=1)
    bare = write_tiny_sd1(tmp_path / "b.safetensors", seed=1, parts=("unet", "text_encoder"))
    metadata = dict(read_header(whole).metadata)
    prefix = "first_stage_model."
    own = {n.removeprefix(prefix): t for n, t in load_file(whole).items() if n.startswith(prefix)}
    save_file(own, tmp_path / "vae.safetensors", metadata=metadata)
    with pytest.raises(UnsupportedCheckpoint, match="no VAE"):
        load_sd1(describe(bare), None, FP32)
    joined = load_sd1(describe(bare), Separate(vae=identify_vae(read_header(tmp_path / "vae.safetensors"))), FP32)
    assert close(one_picture(joined), one_picture(load_sd1(describe(whole), None, FP32)))


def test_weights_are_views_of_the_file_and_nothing_is_left_on_meta(tmp_path: Path) -> None:
    model = load_sd1(describe(write_tiny_sd1(tmp_path / "a.safetensors")), None, FP32)
    for part in (model._unet, model._readers[0].module, model._autoencoder.vae):
        assert not any(value.is_meta for value in (*part.parameters(), *part.buffers()))
        assert not any(value.requires_grad for value in part.parameters())
    begins = [value.data_ptr() for value in model._unet.parameters()]
    assert max(begins) - min(begins) < Path(model.info.path).stat().st_size  # one map, not a copy each


def test_half_precision_files_compute_in_float32_and_bfloat16(tmp_path: Path) -> None:
    info = describe(write_tiny_sd1(tmp_path / "a.safetensors", dtype="F16"))
    exact = one_picture(load_sd1(info, None, FP32))
    half = Placement(
        device=CPU, dtype=torch.bfloat16, vae_dtype=torch.float32, text_device=CPU, unet_device=CPU, vae_device=CPU
    )
    model = load_sd1(info, None, half)
    assert model.key.dtype == "bfloat16"
    assert encoded(model, ["a"], 1)[0].dtype == torch.bfloat16
    rough = one_picture(model)
    assert rough.dtype == torch.float32
    assert 0 < float((rough - exact).abs().mean()) < 0.05
    assert torch.equal(one_picture(model.upcast()), exact)
    latent = torch.randn(1, 4, 8, 8)
    coarse = load_sd1(info, None, Placement(**{**vars(half), "vae_dtype": torch.bfloat16}))
    assert torch.equal(coarse.decode(latent, fp32=True), load_sd1(info, None, FP32).decode(latent))
    assert not torch.equal(coarse.decode(latent), coarse.decode(latent, fp32=True))


def test_nan_passes_through_decoding(starter: UnetModel) -> None:
    assert starter.decode(torch.full((1, 4, 8, 8), float("nan"))).isnan().any()


def test_an_overflow_while_decoding_is_no_white_picture(tmp_path: Path) -> None:
    model = load_sd1(describe(write_tiny_sd1(tmp_path / "a.safetensors")), None, FP32)
    network: Any = model._autoencoder.vae  # its last layer overflows, which no later one turns into NaN
    network.decoder.conv_out.bias = torch.nn.Parameter(torch.full((3,), float("inf")), requires_grad=False)
    assert not model.decode(torch.zeros(1, 4, 8, 8)).isfinite().any()


def test_a_file_that_changed_after_it_was_described_is_refused(tmp_path: Path) -> None:
    path = write_tiny_sd1(tmp_path / "a.safetensors")
    info = describe(path)
    write_tiny_sd1(tmp_path / "new.safetensors", seed=2, dtype="F16").replace(path)
    with pytest.raises(CorruptCheckpoint, match="changed"):
        load_sd1(info, None, FP32)


def test_the_tiny_checkpoint_is_what_its_metadata_says() -> None:
    assert (GROUPS, HEADS) == (4, 2)


def test_a_tiled_decode_is_near_to_the_whole_one_and_leaves_nothing_behind(starter: UnetModel) -> None:
    coarse = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    picture = torch.nn.functional.interpolate(coarse, size=(320, 448), mode="bicubic").clamp(0, 1)
    latent = starter.encode_picture(picture)
    whole = starter.decode(latent)
    tiled = starter.decode(latent, tiled=True)
    assert tiled.shape == whole.shape == (1, 3, 320, 448)
    # Each tile is normalised by itself, so the two are near and not equal
    difference = (tiled - whole).abs()
    assert 0 < float(difference.mean()) < 0.02
    assert float(np.quantile(difference.numpy(), 0.999)) < 0.1
    # Tiles of 28 latent pixels begin every 21; where none overlaps it, each is what it is by itself
    first = starter.decode(latent[:, :, :28, :28].contiguous())
    assert torch.allclose(tiled[:, :, :168, :168], first[:, :, :168, :168], atol=1e-5)
    second = starter.decode(latent[:, :, 21:, 21:49].contiguous())
    assert torch.allclose(tiled[:, :, 224:, 224:336], second[:, :, 56:, 56:168], atol=1e-5)
    between = tiled[:, :, 168:224, :168]  # where one goes over into the next
    below = starter.decode(latent[:, :, 21:, :28].contiguous())[:, :, :56, :168]
    share = (torch.arange(56) / 56)[:, None]
    assert torch.allclose(between, first[:, :, 168:, :168] * (1 - share) + below * share, atol=1e-5)
    assert torch.equal(tiled, starter.decode(latent, tiled=True))
    assert torch.equal(whole, starter.decode(latent))
    small = latent[:, :, :16, :16].contiguous()
    assert torch.equal(starter.decode(small, tiled=True), starter.decode(small))


def test_a_swap_uses_the_memory_of_the_model_before(starter: UnetModel) -> None:
    """The starter's weights are float16, so in float32 each has to be converted."""
    pool = HostPool(1 << 30)
    placement = replace(FP32, pool=pool)
    x, text = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3)), encoded(starter, ["a cat"])[0]
    expected = denoise(starter, x, torch.tensor([2.0]), text)
    kept = []
    for _ in range(3):
        model = load_sd1(describe(STARTER), None, placement)
        assert torch.equal(denoise(model, x, torch.tensor([2.0]), text), expected)
        assert pool.free_bytes == 0
        model.close()
        kept.append(pool.free_bytes)
    assert kept == [kept[0]] * 3
    assert 0 < kept[0] < 1 << 30
