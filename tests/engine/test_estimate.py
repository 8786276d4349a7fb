"""Estimates against what is counted op by op on diffusers' own classes at full size, on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from modules.backbones.sd1 import load_sd1
from modules.core.checkpoint import Header, ModelInfo, TensorInfo, read_header
from modules.core.family import Family, identify
from modules.core.plugin import collect
from modules.diffusion.backbone import Placement
from modules.engine.estimate import (
    FIXED_CPU,
    MARGIN,
    Needs,
    Work,
    decode_values,
    kept_bytes,
    needs_of,
    pass_values,
    weights_of,
)
from tests.engine.small import placement
from tests.live import LiveBytes
from tests.tiny import write_tiny_sd1

HALF, META, CPU = torch.float16, torch.device("meta"), torch.device("cpu")
SD1: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SDXL: dict[str, Any] = {
    "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
REFINER: dict[str, Any] = {
    **SDXL, "cross_attention_dim": 1280, "attention_head_dim": [6, 12, 24, 24],
    "block_out_channels": [384, 768, 1536, 1536], "transformer_layers_per_block": 4,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "projection_class_embeddings_input_dim": 2560,
}  # fmt: skip
KL: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "layers_per_block": 2,
}  # fmt: skip


def on_meta(kind: type[nn.Module], config: Mapping[str, Any]) -> Any:
    with META:
        return kind(**config).eval().requires_grad_(False).half()


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device=META, dtype=HALF)


def counted(run: Callable[[], object]) -> int:
    """Values of two bytes that are there at once."""
    with torch.inference_mode(), LiveBytes() as live:
        run()
    return live.peak // 2


def info(family: str = "", **config: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(name="m", path="m", family=family, label="", supported=True, config=config)


@pytest.mark.parametrize(
    ("config", "extra"), [(SD1, None), (SDXL, (1280, 6)), (REFINER, (1280, 5))], ids=["sd1", "sdxl", "refiner"]
)
@pytest.mark.parametrize(("rows", "side"), [(1, 64), (2, 96)])
def test_a_pass_of_a_unet(config: dict[str, Any], extra: tuple[int, int] | None, rows: int, side: int) -> None:
    unet = on_meta(diffusers.UNet2DConditionModel, config)
    added = extra and {"text_embeds": empty(rows, extra[0]), "time_ids": empty(rows, extra[1])}
    x, times, text = empty(rows, 4, side, side), empty(rows), empty(rows, 77, config["cross_attention_dim"])
    found = counted(lambda: unet(x, times, encoder_hidden_states=text, added_cond_kwargs=added))
    described = info(unet={**unet.config})
    expected = rows * pass_values(described, Work(width=side * 8, height=side * 8))
    assert 0.86 * expected <= found <= 1.1 * expected


def flux(rows: int, side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
    patches = side * side // 4
    model = on_meta(
        diffusers.FluxTransformer2DModel, {"num_layers": 1, "num_single_layers": 2, "guidance_embeds": True}
    )
    return model, {
        "hidden_states": empty(rows, patches, 64), "encoder_hidden_states": empty(rows, tokens, 4096),
        "pooled_projections": empty(rows, 768), "timestep": empty(rows), "guidance": empty(rows),
        "img_ids": empty(patches, 3), "txt_ids": empty(tokens, 3),
    }  # fmt: skip


def chroma(rows: int, side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
    patches = side * side // 4
    model = on_meta(diffusers.ChromaTransformer2DModel, {"num_layers": 1, "num_single_layers": 2})
    return model, {
        "hidden_states": empty(rows, patches, 64), "encoder_hidden_states": empty(rows, tokens, 4096),
        "timestep": empty(rows), "img_ids": empty(patches, 3), "txt_ids": empty(tokens, 3),
    }  # fmt: skip


def sd3(rows: int, side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
    config = {
        "sample_size": 128, "num_layers": 3, "num_attention_heads": 24, "caption_projection_dim": 1536,
        "pos_embed_max_size": 96, "joint_attention_dim": 4096, "pooled_projection_dim": 2048,
    }  # fmt: skip
    return on_meta(diffusers.SD3Transformer2DModel, config), {
        "hidden_states": empty(rows, 16, side, side), "encoder_hidden_states": empty(rows, tokens, 4096),
        "pooled_projections": empty(rows, 2048), "timestep": empty(rows),
    }  # fmt: skip


def qwen_image(rows: int, side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
    model = on_meta(diffusers.QwenImageTransformer2DModel, {"num_layers": 2})
    return model, {
        "hidden_states": empty(rows, side * side // 4, 64), "encoder_hidden_states": empty(rows, tokens, 3584),
        "encoder_hidden_states_mask": torch.ones(rows, tokens, device=META, dtype=torch.bool),
        "timestep": empty(rows), "img_shapes": [[(1, side // 2, side // 2)]] * rows,
    }  # fmt: skip


def z_image(rows: int, side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
    model = on_meta(diffusers.ZImageTransformer2DModel, {"n_layers": 2, "n_refiner_layers": 1})
    return model, {
        "x": [empty(16, 1, side, side)] * rows, "t": empty(rows), "cap_feats": [empty(tokens, 2560)] * rows,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")
@pytest.mark.parametrize("build", [flux, chroma, sd3, qwen_image, z_image], ids=lambda build: build.__name__)
@pytest.mark.parametrize(("rows", "side"), [(1, 128), (2, 96)])
def test_a_pass_of_a_transformer(
    build: Callable[[int, int, int], tuple[Any, dict[str, Any]]], rows: int, side: int
) -> None:
    model, inputs = build(rows, side, 512)
    found = counted(lambda: model(**inputs))
    described = info(build.__name__, transformer=dict(model.config))
    expected = rows * pass_values(described, Work(width=side * 8, height=side * 8, tokens=512))
    assert 0.86 * expected <= found <= 1.1 * expected


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize(
    ("kind", "config", "latent"),
    [
        (diffusers.AutoencoderKL, KL, (1, 4)),
        (diffusers.AutoencoderKL, {**KL, "block_out_channels": (64, 96, 128, 128)}, (1, 4)),
        (diffusers.AutoencoderKLQwenImage, {}, (1, 16, 1)),
    ],
    ids=["kl", "narrow", "qwen"],
)
def test_decoding(kind: type[Any], config: dict[str, Any], latent: tuple[int, ...], side: int) -> None:
    vae = on_meta(kind, config)
    found = counted(lambda: vae.decode(empty(*latent, side, side)))
    assert found == pytest.approx(decode_values(info(vae={**vae.config})) * (side * 8) ** 2, rel=0.1)
    if kind is diffusers.AutoencoderKL and side == 128:
        vae.enable_tiling()
        vae.tile_latent_min_size, vae.tile_sample_min_size = 64, 512
        tiles = counted(lambda: vae.decode(empty(*latent, side, side)))
        half = Placement(device=CPU, dtype=HALF, vae_dtype=HALF, text_device=CPU, unet_device=CPU, vae_device=CPU)
        needs = needs_of(info(vae={**vae.config}, unet=SD1), {}, Work(width=1024, height=1024), half)
        assert 2 * tiles <= needs.tiled <= 2 * tiles * MARGIN * 1.2 + FIXED_CPU


def test_a_vae_in_a_file_of_its_own_is_the_family_s_kind() -> None:
    assert decode_values(info("qwen_image")) == decode_values(info(vae={"base_dim": 96})) == 1728
    assert decode_values(info("flux")) == decode_values(info(vae=KL)) == 768


def test_weights_are_those_that_will_be_loaded(tmp_path: Path) -> None:
    path = write_tiny_sd1(tmp_path / "a.safetensors")
    header = read_header(path)
    told = weights_of(header, {}, placement())
    families = collect("modules.families", Family, group="inferenz.families")
    model = load_sd1(identify(header, families), None, placement())
    assert dict(told.parts) == pytest.approx(dict(model.part_bytes), rel=0.01)
    assert told.fresh == 0
    half = weights_of(header, {}, placement(torch.bfloat16))
    assert half.total == told.total // 2 == half.fresh


def test_apples_gpus_compute_from_copies_of_their_own() -> None:
    apple = torch.device("mps")
    there = Placement(
        device=apple, dtype=HALF, vae_dtype=torch.float32, text_device=apple, unet_device=apple, vae_device=apple
    )
    told = weights_of(header_of(model__diffusion_model__x=f16(10, 10), first_stage_model__x=f16(10)), {}, there)
    assert told.fresh == told.total == 200 + 40


def header_of(**tensors: TensorInfo) -> Header:
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return Header(path=Path("m.safetensors"), tensors=named, metadata={}, size=0, mtime_ns=0)


def f16(*shape: int) -> TensorInfo:
    return TensorInfo("F16", shape, (0, 2 * torch.Size(shape).numel()))


def test_separate_files_take_their_parts_places() -> None:
    whole = header_of(
        model__diffusion_model__x=f16(10, 10),
        first_stage_model__x=f16(10),
        cond_stage_model__x=f16(10),
        model_ema__x=f16(99),
    )
    vae, text = header_of(decoder__x=f16(20)), header_of(shared__weight=f16(7, 7))
    half = Placement(device=CPU, dtype=HALF, vae_dtype=HALF, text_device=CPU, unet_device=CPU, vae_device=CPU)
    assert weights_of(whole, {}, half).parts == {"denoiser": 200, "vae": 20, "text": 20}
    other = weights_of(whole, {"vae": vae, "text_encoder_2": text}, half)
    assert other.parts == {"denoiser": 200, "vae": 40, "text": 20 + 98}
    assert weights_of(whole, {"vae": whole}, half).parts == {"denoiser": 200, "vae": 20, "text": 20}


def test_large_text_encoders_compute_from_their_file_on_the_cpu() -> None:
    whole = header_of(model__diffusion_model__x=f16(10), text_encoders__t5xxl__wi=f16(10240, 4096))
    clip = header_of(text_model__fc1=f16(5120, 1280))
    told = weights_of(whole, {"text_encoder": clip}, placement())
    assert told.parts["text"] == 2 * 10240 * 4096 + 4 * 5120 * 1280
    assert told.fresh == 4 * 10 + 4 * 5120 * 1280


def test_packed_weights_are_kept_as_they_are() -> None:
    half, full = torch.float16, torch.float32
    assert kept_bytes(TensorInfo("F8_E4M3", (8, 8), (0, 64)), full) == 64
    assert kept_bytes(TensorInfo("F8_E4M3", (8,), (0, 8)), full) == 32
    assert kept_bytes(TensorInfo("Q4_K", (8, 256), (0, 1152)), half) == 1152
    assert kept_bytes(TensorInfo("U8", (1024, 1), (0, 1024)), half) == 1024
    assert kept_bytes(f16(8, 8), half, rounded=True) == 64
    assert kept_bytes(f16(8), half, rounded=True) == 16
    assert kept_bytes(f16(8, 8), full) == 256


def test_what_each_mode_needs() -> None:
    needs = Needs(
        parts={"denoiser": 5000 << 20, "text": 1500 << 20, "vae": 160 << 20},
        activations=10,
        decode=90,
        tiled=20,
        text=7,
    )
    assert needs.at("normal") == (6660 << 20) + 90
    assert needs.at("normal", tiled=True) == (6660 << 20) + 20
    assert needs.at("medium") == (5000 << 20) + 10
    assert needs.at("low") == (512 << 20) + 10
