"""VAEs that nothing here decodes with: both places where one can lie call them the same."""

from __future__ import annotations

from typing import Any

import pytest

from modules.core.family import Family, identify
from modules.core.plugin import Registry
from modules.families.vae import identify_vae
from tests.families.published import header_of, of_class, vae
from tests.families.record_headers import shapes_of


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("AutoencoderKLMochi", {}, "the VAE of Mochi"),
        ("AutoencoderKLCosmos", {}, "the VAE of Cosmos"),
        ("AutoencoderKLQwenImage21", {}, "the VAE of Wan 2.2 or Qwen-Image 2"),
        ("AutoencoderKLMagvit", {}, "the VAE of a video model"),
        ("AutoencoderKLAllegro", {}, "the VAE of a video model"),
        ("AutoencoderKLFlux2", {}, "as Flux.2 has"),
        ("AutoencoderKLKVAE", {}, "a VAE of a kind that is not known here"),
        ("AsymmetricAutoencoderKL", {}, "an asymmetric VAE for inpainting"),
        ("ConsistencyDecoderVAE", {}, "consistency decoder"),
        ("AutoencoderDC", {}, "a deep compression VAE"),
    ],
)
def test_classes_of_diffusers(name: str, config: dict[str, Any], says: str, families: Registry[Family]) -> None:
    header = header_of(shapes_of(of_class(name, **config)), "some")
    listed, offered = identify(header, families), identify_vae(header)
    assert (listed.family, listed.supported, offered.supported) == ("vae", False, False)
    assert (listed.problem.startswith("this is "), offered.problem.startswith("some.safetensors is ")) == (True, True)
    assert says in listed.problem
    assert says in offered.problem
    assert "models/VAE" not in listed.problem


def test_what_can_be_used_says_with_what_and_where(families: Registry[Family]) -> None:
    problem = identify(header_of(vae()), families).problem
    assert problem == "this is a VAE (Stable Diffusion 1, 2, XL), not a checkpoint: put it into models/VAE."


def test_names_of_the_original_layouts(families: Registry[Family]) -> None:
    sounds = {"decoder.layers.1.layers.0.beta": [8], "encoder.layers.0.weight_g": [8]}
    assert "an autoencoder of sounds" in identify(header_of(sounds), families).problem
    hunyuan = {"decoder.conv_in.weight": [1024, 64, 3, 3], "encoder.conv_in.weight": [128, 3, 3, 3]}
    assert "HunyuanImage" in identify(header_of(hunyuan), families).problem
    cascade = {"vquantizer.codebook.weight": [8192, 4], "in_block.1.weight": [8, 8]}
    assert "Stable Cascade" in identify(header_of(cascade), families).problem


def test_a_vae_that_lacks_something_is_still_broken_and_not_strange(families: Registry[Family]) -> None:
    holed = {name: shape for name, shape in vae().items() if name != "decoder.conv_norm_out.weight"}
    problem = identify_vae(header_of(holed, "holed")).problem
    assert problem.startswith("holed.safetensors is incomplete: decoder.conv_norm_out.weight of the VAE")
    alone = {name: shape for name, shape in vae().items() if name.startswith(("decoder.", "post_quant_conv."))}
    assert "a decoder alone" in identify_vae(header_of(alone)).problem
