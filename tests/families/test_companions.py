"""What lies beside checkpoints: embeddings, upscalers, restorers of faces, what looks at pictures, parts of a model."""

from __future__ import annotations

import pytest

from modules.core.errors import UnsupportedCheckpoint
from modules.core.family import Family, identify, recognise
from modules.core.plugin import Registry
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae
from tests.families.published import header_of, vae


@pytest.mark.parametrize(
    "shapes",
    [
        {"<cat-toy>": [768]}, {"my_style": [4, 1024]}, {"text_encoders_0": [2, 768], "text_encoders_1": [2, 1280]},
        {"clip_l": [4, 768], "t5xxl": [4, 4096]},
    ],
)  # fmt: skip
def test_embeddings(shapes: dict[str, list[int]], families: Registry[Family]) -> None:
    assert identify(header_of(shapes), families).family == "embedding"


@pytest.mark.parametrize("shapes", [{"project.weight": [768, 1024]}, {"head": [5, 3, 3]}, {"table": [4096, 768]}])
def test_a_single_tensor_is_not_an_embedding_at_any_rate(
    shapes: dict[str, list[int]], families: Registry[Family]
) -> None:
    assert identify(header_of(shapes), families).family == "unknown"


@pytest.mark.parametrize(
    ("names", "family", "says"),
    [
        (("params_ema.conv_first.weight",), "upscaler", "models/ESRGAN"),
        (("conv_1.sk.weight", "block_1.c1_r.sk.weight"), "upscaler", "models/ESRGAN"),
        (("unet1.conv1.conv.0.weight",), "upscaler", "models/ESRGAN"),
        (("initial_conv.weight", "post_upsample_res_blocks.0.conv1.weight"), "latent_upscaler", "LTX-Video"),
        (("stylegan_decoder.style_mlp.1.weight",), "face_restorer", "nothing here uses it"),
        (("position_emb", "quantize.embedding.weight"), "face_restorer", "nothing here uses it"),
        (("mask_decoder.iou_token.weight", "image_encoder.patch_embed.proj.weight"), "analyser", "looks at pictures"),
        (("model.0.conv.weight", "model.1.conv.weight"), "analyser", "looks at pictures"),
        (("concept_embeds", "vision_model.vision_model.post_layernorm.weight"), "analyser", "looks at pictures"),
        (("taesd_decoder.1.weight",), "taesd", "VAE-approx"),
        (("position_net.linears.0.weight", "input_blocks.1.1.fuser.attn.to_k.weight"), "controlnet", "GLIGEN"),
        (("id_adapter.body.0.weight",), "controlnet", "face adapter"),
        (("control_blocks.0.ff.net.2.weight", "patch_embed.proj.weight"), "controlnet", "ControlNet"),
        (("head.modulation", "blocks.0.self_attn.q.weight", "vace_blocks.0.after_proj.weight"), "video", "Wan"),
        (("vace_blocks.0.after_proj.weight", "vace_patch_embedding.weight"), "controlnet", "ControlNet"),
    ],
)
def test_what_lies_beside_checkpoints(
    names: tuple[str, ...], family: str, says: str, families: Registry[Family]
) -> None:
    info = identify(header_of({name: [4, 4] for name in names}), families)
    assert (info.family, info.supported) == (family, False)
    assert says in info.problem


def test_a_row_of_convolutions_is_an_upscaler(families: Registry[Family]) -> None:
    compact = {"body.0.weight": [64, 3, 3, 3], "body.0.bias": [64], "body.1.weight": [64]}
    assert identify(header_of(compact), families).family == "upscaler"


def test_a_part_of_a_split_model_says_that_it_is_one(families: Registry[Family]) -> None:
    """Its tensors may be those of a broken model, or of none."""
    header = header_of({"single_transformer_blocks.5.proj_mlp.bias": [8]}, "diffusion_pytorch_model-00002-of-00003")
    info = identify(header, families)
    assert (info.family, info.supported) == ("part", False)
    assert "part 2 of 3 of a model" in info.problem
    with pytest.raises(UnsupportedCheckpoint, match="part 2 of 3"):
        recognise(header, families)
    assert "part 1 of 2" in identify_text_encoder(header_of(vae(), "model-00001-of-00002")).problem
    assert "part 1 of 2" in identify_vae(header_of(vae(), "model-00001-of-00002")).problem
    assert identify_vae(header_of(vae(), "model-00001-of-00001")).supported
