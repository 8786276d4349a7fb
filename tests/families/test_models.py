"""Every family of models by stripped headers of its published files, at their true dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from modules.core.errors import RequestError
from modules.core.family import Family, identify
from modules.core.plugin import Registry
from modules.families.layouts.parts import sort_parts
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae
from tests.families.cases import CASES, named, sd2, sdxl
from tests.families.published import (
    SDXL_UNET,
    build,
    flux_model,
    header_of,
    of_class,
    qwen_vae_original,
    under,
    unet,
    unet_original,
    vae,
    vae_original,
)
from tests.families.record_headers import shapes_of


@pytest.mark.parametrize("name", CASES)
def test_a_published_file_is_what_it_is(name: str, families: Registry[Family]) -> None:
    shapes, family, variant, prediction, components = CASES[name]
    header = header_of(shapes(), name)
    info = identify(header, families)
    assert (info.family, info.supported, info.problem) == (family, True, "")
    assert (info.variant, info.prediction, info.components) == (variant, prediction, components)
    assert info.layout in ("original", "diffusers")
    assert not sort_parts(header).rest
    for network in sort_parts(header).networks.values():
        assert not network.unknown


CLASSES = {
    "flux": "FluxTransformer2DModel", "sd3": "SD3Transformer2DModel", "chroma": "ChromaTransformer2DModel",
    "z_image": "ZImageTransformer2DModel", "qwen_image": "QwenImageTransformer2DModel",
}  # fmt: skip
TEXT_CLASSES = {
    "clip_l": "CLIPTextModelWithProjection",
    "clip_g": "CLIPTextModelWithProjection",
    "t5": "T5EncoderModel",
}


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("z_image_base", "flux1-kontext-dev")])
def test_the_configuration_makes_networks_of_the_same_parameters(name: str, families: Registry[Family]) -> None:
    """diffusers' class, made with what was read from the header, has the names of the table and the file's shapes."""
    header = header_of(CASES[name][0](), name)
    info, parts = identify(header, families), sort_parts(header)
    for component in info.components:
        network = parts.networks[component]
        if component in ("unet", "transformer"):
            kind = "UNet2DConditionModel" if component == "unet" else CLASSES[info.family]
            model = build(kind, config=info.config[component])
        elif component == "vae":
            model = build("AutoencoderKL", config=info.config[component])
        else:
            model = build(TEXT_CLASSES.get(network.kind, "CLIPTextModelWithProjection"), "transformers", network.config)
        wanted = {name.removeprefix("text_model."): shape for name, shape in shapes_of(model).items()}
        found = {name: list(_shape(header, source)) for name, source in network.names.items()}
        if "text_projection.weight" not in found:
            wanted.pop("text_projection.weight", None)
        assert {name: _squeezed(shape) for name, shape in found.items()} == {
            name: _squeezed(shape) for name, shape in wanted.items()
        }


def _shape(header: Any, source: Any) -> tuple[int, ...]:
    if isinstance(source, str):
        return tuple(header.tensors[source].shape)
    shape = tuple(header.tensors[source.name].shape)
    if source.rows is not None:
        shape = (source.rows[1] - source.rows[0], *shape[1:])
    return shape[::-1] if source.change == "transpose" else shape


def _squeezed(shape: list[int]) -> list[int]:
    return [side for side in shape if side != 1]


def test_sdxl_defaults_are_never_512(families: Registry[Family]) -> None:
    base = named(sdxl(), families, "sd_xl_base_1.0").defaults
    assert (base.width, base.height, base.cfg_scale) == (1024, 1024, 7.0)
    lightning = named(sdxl(), families, "dreamshaperXL_lightning_4step").defaults
    assert (lightning.width, lightning.steps, lightning.cfg_scale, lightning.schedule) == (1024, 4, 1.0, "turbo")
    turbo = named(sdxl(), families, "sd_xl_turbo_1.0_fp16").defaults
    assert (turbo.width, turbo.steps, turbo.cfg_scale) == (512, 1, 1.0)
    assert named(sdxl(), families, "lcm_sdxl").defaults.sampler == "lcm"


def test_v_prediction_of_sdxl_ends_in_noise_where_the_file_says_so(families: Registry[Family]) -> None:
    marked = named({**sdxl(), "v_pred": [], "ztsnr": []}, families)
    assert (marked.prediction, marked.config["scheduler"]["zero_terminal_snr"]) == ("v", True)
    only_v = named({**sdxl(), "v_pred": []}, families)
    assert (only_v.prediction, "scheduler" in only_v.config) == ("v", False)
    by_name = named(sdxl(), families, "NoobAI-XL-Vpred-v1.0")
    assert (by_name.prediction, by_name.config["scheduler"]["zero_terminal_snr"]) == ("v", True)
    by_metadata = named(sdxl(), families, metadata={"modelspec.prediction_type": "v"})
    assert by_metadata.prediction == "v"


def test_unets_that_take_their_guidance_as_an_input_say_so(families: Registry[Family]) -> None:
    plain = shapes_of(unet(SDXL_UNET))
    guided = named({**plain, "time_embedding.cond_proj.weight": [320, 256]}, families, "my distilled xl").defaults
    assert (guided.distilled_cfg_scale, guided.cfg_scale, guided.sampler, guided.width) == (8.0, 1.0, "lcm", 1024)
    assert named(plain, families, "my xl").defaults.distilled_cfg_scale is None


def test_models_of_edms_noise_levels(families: Registry[Family]) -> None:
    """Playground v2.5 and CosXL, marked by tensors; a UNet alone has its name only."""
    marked = named({**sdxl(), "edm_mean": [4], "edm_std": [4]}, families)
    assert (marked.prediction, marked.defaults.cfg_scale, marked.defaults.schedule) == ("edm", 3.0, "karras")
    assert marked.config["scheduler"] == {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}
    cosine = named({**sdxl(), "edm_vpred.sigma_max": [], "edm_vpred.sigma_min": []}, families)
    assert (cosine.prediction, cosine.config["scheduler"]["sigma_max"]) == ("v", 120.0)
    alone = under("", unet_original(SDXL_UNET))
    assert named(alone, families, "playground-v2.5-1024px").prediction == "edm"
    assert named(alone, families, "CosXL_fp16").config["scheduler"]["sigma_data"] == 1.0
    assert named(alone, families, "playground-v2-1024px").prediction == "epsilon"


@pytest.mark.parametrize(
    ("name", "metadata", "prediction", "side"),
    [
        ("v2-1_768-ema-pruned", {}, "v", 768),
        ("v2-1_512-ema-pruned", {}, "epsilon", 512),
        ("512-base-ema", {}, "epsilon", 512),
        ("wd-1-5-beta", {}, "v", 768),
        ("anything", {"modelspec.prediction_type": "epsilon"}, "epsilon", 512),
        ("anything", {"modelspec.resolution": "512x512"}, "epsilon", 512),
        ("anything", {"modelspec.resolution": "768x768"}, "v", 768),
        ("sd_turbo", {}, "epsilon", 512),
    ],
)
def test_sd2_base_and_v(
    name: str, metadata: Mapping[str, str], prediction: str, side: int, families: Registry[Family]
) -> None:
    info = named(sd2(), families, name, metadata)
    assert (info.family, info.prediction, info.defaults.width) == ("sd2", prediction, side)
    assert info.config["unet"].get("upcast_attention", False) == (prediction == "v")


def test_pruned_sdxl_models_are_read_by_their_depths(families: Registry[Family]) -> None:
    """SSD-1B (Segmind 2023): uneven depths, and no attention in the middle."""
    config = {
        **SDXL_UNET,
        "transformer_layers_per_block": [0, [2, 2], [4, 4]],
        "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
        "mid_block_type": "UNetMidBlock2D",
    }
    shapes = shapes_of(unet(config))
    info = named(shapes, families, "SSD-1B")
    assert (info.family, info.supported, info.problem) == ("sdxl", True, "")
    made = build("UNet2DConditionModel", config=info.config["unet"])
    assert shapes_of(made) == shapes


def test_what_a_person_says_is_taken_and_checked(families: Registry[Family]) -> None:
    header = header_of(sd2(), "mystery")
    assert identify(header, families, prediction="epsilon").prediction == "epsilon"
    assert identify(header, families, family="sd2", variant="turbo").variant == "turbo"
    other = identify(header, families, family="sdxl")
    assert (other.family, other.supported) == ("sdxl", False)
    assert other.problem.startswith("this cannot be taken as Stable Diffusion XL")
    with pytest.raises(RequestError, match=r"family: there is no family 'sd9'.*sd1, sd2, sdxl"):
        identify(header, families, family="sd9")
    with pytest.raises(RequestError, match=r"prediction: Stable Diffusion 2 has no 'flow'.*epsilon, v"):
        identify(header, families, prediction="flow")
    with pytest.raises(RequestError, match=r"variant: Stable Diffusion 2 has no 'refiner'"):
        identify(header, families, variant="refiner")


@pytest.mark.parametrize(
    ("name", "cut", "says"),
    [
        ("flux1-dev", "double_blocks.7.img_attn.qkv.bias", "double_blocks.7.img_attn.qkv.bias of the transformer is"),
        ("sd3_medium", "joint_blocks.3.x_block.mlp.fc1.weight", "joint_blocks.3.x_block.mlp.fc1.weight of the"),
        ("z_image_turbo", "layers.9.ffn_norm1.weight", "layers.9.ffn_norm1.weight of the transformer is missing"),
        ("qwen_image_2512", "transformer_blocks.2.attn.to_q.bias", "transformer_blocks.2.attn.to_q.bias of the"),
        ("Chroma1-HD", "distilled_guidance_layer.norms.1.scale", "distilled_guidance_layer.norms.1.scale of the"),
        ("sd_xl_base_1.0", "conditioner.embedders.1.model.transformer.resblocks.5.ln_1.bias", "ln_1.bias of the text"),
    ],
)
def test_what_is_missing_is_named(name: str, cut: str, says: str, families: Registry[Family]) -> None:
    shapes, family, *_ = CASES[name]
    rest = {key: shape for key, shape in shapes().items() if not key.endswith(cut)}
    assert len(rest) < len(shapes())
    info = named(rest, families, name)
    assert (info.family, info.supported) == (family, False)
    assert says in info.problem


def test_every_family_of_models_says_what_it_needs(families: Registry[Family]) -> None:
    for kind in families.values():
        if not kind.predictions or kind.name == "diffusers":
            continue
        assert [part.name for part in kind.parts][-1] == "vae", kind.name
        assert all(part.usual.endswith(".safetensors") for part in kind.parts)
        assert kind.variants


def test_the_flux_vae_and_qwen_vae_have_kinds() -> None:
    assert identify_vae(header_of(vae_original(16, quant=False), "ae")).variant == "kl16"
    assert identify_vae(header_of(vae(4))).variant == "kl4"
    qwen = identify_vae(header_of(qwen_vae_original(), "qwen_image_vae"))
    assert (qwen.variant, qwen.supported, qwen.config["vae"]["z_dim"]) == ("qwen", True, 16)
    assert qwen.config["vae"]["temperal_downsample"] == [False, True, True]
    assert identify_vae(header_of(shapes_of(of_class("AutoencoderKLQwenImage")))).layout == "diffusers"
    flux2 = identify_vae(header_of(shapes_of(of_class("AutoencoderKLFlux2"))))
    assert (flux2.variant, flux2.supported) == ("kl32", False)
    assert "Flux.2" in flux2.problem


def test_flux_in_diffusers_layout(families: Registry[Family]) -> None:
    shapes = shapes_of(flux_model(num_layers=3, num_single_layers=3, guidance_embeds=True))
    for prefix in ("", "transformer."):
        info = named(under(prefix, shapes), families, "dev")
        assert (info.family, info.variant, info.layout) == ("flux", "dev", "diffusers")


@pytest.mark.parametrize("name", ["sd_xl_base_1.0", "flux1-schnell", "sd3_medium", "z_image_turbo", "qwen_image_2512"])
def test_no_shape_makes_detection_fail(name: str, families: Registry[Family]) -> None:
    """Whatever the tensors' shapes are, there is an answer. That all of them fit is found when the model is filled."""
    shapes = CASES[name][0]()
    for shape in ([], [4], [0, 0], [4, 4, 4, 4]):
        broken = {key: given if i % 3 else shape for i, (key, given) in enumerate(shapes.items())}
        assert named(broken, families, name).path
        identify_text_encoder(header_of(broken))
        identify_vae(header_of(broken))


def test_what_training_left_behind_does_not_make_another_model(families: Registry[Family]) -> None:
    left = {
        "model_ema.decay": [1], "global_step": [1], "first_stage_model.loss.logvar": [1], "denoiser.sigmas": [1000],
        "first_stage_model.loss.discriminator.main.0.weight": [64, 3, 4, 4], "logit_scale": [1],
    }  # fmt: skip
    info = named({**sdxl(), **left}, families)
    assert (info.family, info.supported) == ("sdxl", True)
    alone = header_of({**vae_original(), "loss.logvar": [1], "model_ema.decay": [1]}, "vae-ft-mse")
    assert identify(alone, families).family == "vae"
    assert identify_vae(alone).supported


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("juggernautXLTurboV2", "turbo"),
        ("DreamShaperXL_Turbo_v2", "turbo"),
        ("realvisxl_lightning", "lightning"),
        ("dreamshaperLCM", "lcm"),
        ("Hyper-SDXL-8steps", "hyper"),
        ("ponyHyper8", "hyper"),
        ("hyperrealismXL", ""),
        ("theAlcmodel", ""),
        ("sdxl_dmd2_4step", "dmd"),
    ],
)
def test_a_name_tells_a_distilled_model(name: str, variant: str, families: Registry[Family]) -> None:
    assert named(sdxl(), families, name).variant == variant
