"""Packed weights by headers as the programs that pack them write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from modules.core.checkpoint import Header
from modules.core.family import Family, identify
from modules.core.plugin import Registry
from modules.families.layouts.packed import folded
from modules.families.layouts.parts import sort_parts, text_parts
from modules.families.text_encoder import identify_text_encoder
from tests.families.published import Shapes, flux_original, header_of, sd3_original, t5_xxl, under, z_image_original

NET = "model.diffusion_model."


def flux() -> Shapes:
    return flux_original(num_layers=2, num_single_layers=2, guidance_embeds=True)


def matrices(shapes: Mapping[str, list[int]]) -> Iterator[str]:
    return (name for name, shape in shapes.items() if len(shape) == 2 and name.endswith(".weight"))


def nf4(shapes: Shapes, kind: str = "nf4", *, nested: bool = False) -> Header:
    """As bitsandbytes saves linear layers: half a byte a weight in a row, and tensors named after it.

    Embeddings are none, and stay as they are.
    """
    packed: Shapes = {}
    dtypes = {}
    linear = {name for name in matrices(shapes) if not any(word in name for word in ("embed_", "shared", "relative"))}
    for name, shape in shapes.items():
        if name not in linear:
            packed[name] = shape
            continue
        count = shape[0] * shape[1]
        packed[name], dtypes[name] = [count // 2, 1], "U8"
        sides = {"absmax": [count // 64], "quant_map": [16], f"quant_state.bitsandbytes__{kind}": [100]}
        if nested:
            sides |= {"nested_absmax": [count // 64 // 256], "nested_quant_map": [256]}
        packed.update({f"{name}.{side}": shape for side, shape in sides.items()})
    return header_of(packed, "packed", dtypes=dtypes)


def scaled_fp8(shapes: Shapes, scale: str, marker: str = "") -> Header:
    """As ComfyUI saves scaled fp8."""
    found, dtypes = dict(shapes), {}
    for name in matrices(shapes):
        dtypes[name] = "F8_E4M3"
        found[f"{name.removesuffix('weight')}{scale}"] = []
        if scale == "weight_scale":
            found[f"{name.removesuffix('weight')}comfy_quant"] = [40]
            found[f"{name.removesuffix('weight')}input_scale"] = []
    if marker:
        found[marker] = [0]
    return header_of(found, "scaled", dtypes=dtypes)


@pytest.mark.parametrize("prefix", ["", NET])
@pytest.mark.parametrize(("kind", "nested"), [("nf4", False), ("nf4", True), ("fp4", False)])
def test_bitsandbytes(kind: str, nested: bool, prefix: str, families: Registry[Family]) -> None:
    plain = identify(header_of(under(prefix, flux())), families)
    info = identify(nf4(under(prefix, flux()), kind, nested=nested), families)
    assert (info.family, info.supported, info.quantisation, info.problem) == ("flux", True, kind, "")
    assert info.config == plain.config


def test_matrices_without_bias_take_their_shape_from_what_surrounds_them(families: Registry[Family]) -> None:
    plain = header_of(z_image_original(n_layers=2), "z_image_turbo")
    packed = replace(nf4(z_image_original(n_layers=2)), path=plain.path)
    assert identify(packed, families).config == identify(plain, families).config
    t5 = identify_text_encoder(nf4(t5_xxl()))
    assert (t5.variant, t5.quantisation, t5.config) == ("t5", "nf4", identify_text_encoder(header_of(t5_xxl())).config)


@pytest.mark.parametrize(
    ("scale", "marker"), [("scale_weight", "scaled_fp8"), ("weight_scale", ""), ("scale_weight", NET + "scaled_fp8")]
)
def test_scaled_fp8(scale: str, marker: str, families: Registry[Family]) -> None:
    header = scaled_fp8(under(NET, flux()), scale, marker)
    info = identify(header, families)
    assert (info.family, info.supported, info.quantisation) == ("flux", True, "fp8_scaled")
    assert info.dtype == "F8_E4M3"
    parts = sort_parts(header)
    assert (parts.rest, parts.networks["transformer"].unknown) == ((), ())


def test_plain_fp8(families: Registry[Family]) -> None:
    shapes = sd3_original(num_layers=2)
    header = header_of(shapes, dtypes=dict.fromkeys(matrices(shapes), "F8_E5M2"))
    info = identify(header, families)
    assert (info.family, info.quantisation, info.dtype) == ("sd3", "fp8", "F8_E5M2")
    t5 = identify_text_encoder(scaled_fp8(t5_xxl(), "scale_weight", "scaled_fp8"))
    assert (t5.supported, t5.variant, t5.quantisation) == (True, "t5", "fp8_scaled")


def test_gguf(families: Registry[Family]) -> None:
    header = header_of(flux(), "flux1-dev-Q4_K_S", dtypes=dict.fromkeys(matrices(flux()), "Q4_K"))
    info = identify(header, families)
    assert (info.family, info.supported, info.quantisation, info.dtype) == ("flux", True, "gguf", "Q4_K")


@pytest.mark.parametrize(
    ("weights", "scale", "scales", "says"),
    [
        ("F8_E4M3", "weight_scale", "F8_E8M0", "MXFP8"),
        ("F8_E4M3", "weight_scale", "U8", "MXFP8"),
        ("F4", "weight_scale", "F8_E8M0", "MXFP4"),
        ("F4", "weight_scale_2", "F32", "NVFP4"),
        ("I8", "weight_scale", "F32", "8-bit integers"),
        ("I8", "SCB", "F32", "8-bit integers"),
        ("I8", "weight_format", "U8", "8-bit integers"),
    ],
)
def test_packings_that_are_not_read_are_named(
    weights: str, scale: str, scales: str, says: str, families: Registry[Family]
) -> None:
    shapes, dtypes = flux(), {}
    for name in list(matrices(shapes)):
        side = f"{name.removesuffix('weight')}{scale}"
        shapes[side], dtypes[name], dtypes[side] = [1], weights, scales
    info = identify(header_of(shapes, dtypes=dtypes), families)
    assert (info.family, info.supported) == ("flux", False)
    assert info.problem == (
        f"this is Flux.1, whose weights are packed as {says}, not supported yet: take one in bf16, fp8 or GGUF."
    )


@pytest.mark.parametrize(
    ("leaf", "says"),
    [
        ("qweight", "SVDQuant"), ("weight._data", "Quanto"), ("sign_mantissa", "DFloat11"), ("W_q", "HQQ"),
        ("svd_up", "SDNQ"), ("qzeros", "GPTQ or AWQ"),
    ],
)  # fmt: skip
def test_weights_under_names_of_their_own(leaf: str, says: str, families: Registry[Family]) -> None:
    keeps = leaf in ("svd_up", "qzeros")  # beside the weight, or in its place
    packed: Shapes = {}
    for name, shape in flux().items():
        stem = name.removesuffix("weight")
        if len(shape) == 2 and stem != name:
            packed[f"{stem}{leaf}"] = [8, 8]
            packed.update({f"{stem}{'weight' if leaf != 'qzeros' else 'qweight'}": [8, 8]} if keeps else {})
        else:
            packed[name] = shape
    info = identify(header_of(packed), families)
    assert (info.family, info.label, info.supported) == ("packed", "Flux.1", False)
    assert f"packed as {says}" in info.problem.replace("Nunchaku's ", "")


def test_nunchakus_own_names(families: Registry[Family]) -> None:
    """Its layers hold a LoRA each, and are named otherwise than the model's."""
    layers = ("transformer_blocks.0.qkv_proj", "single_transformer_blocks.0.mlp_fc1")
    shapes = {f"{layer}.{leaf}": [8, 8] for layer in layers for leaf in ("qweight", "wscales", "lora_down", "lora_up")}
    info = identify(header_of(shapes, "svdq-int4_r32-flux.1-dev"), families)
    assert (info.label, info.variant) == ("Flux.1", "svdq")
    t5 = {"shared.weight": [32128, 4096], "encoder.block.0.layer.0.SelfAttention.q.qweight": [8, 8]}
    assert "SVDQuant" in identify(header_of(t5), families).problem
    assert "SVDQuant" in identify_text_encoder(header_of(t5)).problem


def test_fp8_in_squares_is_as_good_as_any(families: Registry[Family]) -> None:
    info = identify(scaled_fp8(flux(), "weight_scale_inv"), families)
    assert (info.supported, info.quantisation) == (True, "fp8_scaled")


def test_a_text_encoder_in_8_bit_integers_is_not_loaded() -> None:
    shapes, dtypes = t5_xxl(), {}
    for name in list(matrices(shapes)):
        if "embed" not in name and "shared" not in name and "relative" not in name:
            dtypes[name] = "I8"
            shapes[f"{name.removesuffix('weight')}SCB"] = [4096]
    info = identify_text_encoder(header_of(shapes, dtypes=dtypes))
    assert (info.variant, info.supported, info.quantisation) == ("t5", False, "int8")
    assert "is a text encoder, whose weights are packed as 8-bit integers" in info.problem


def test_a_plain_file_is_left_as_it_is() -> None:
    header = header_of(flux())
    assert folded(header).header is header
    assert folded(header).quantisation == ""


def test_text_parts_of_packed_files_name_the_weights_alone() -> None:
    names = text_parts(scaled_fp8(t5_xxl(), "scale_weight")).of("text_encoder").values()
    assert not [name for name in names if "scale" in str(name)]
