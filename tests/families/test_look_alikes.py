"""What is no model that is loaded from a single file is named for what it is, and never taken for one that is."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import pytest
import torch

from modules.core.family import Family, identify
from modules.core.plugin import Registry
from tests.families.cases import NET, sd2
from tests.families.published import SDXL_UNET, header_of, of_class, under, unet
from tests.families.record_headers import UNET as SD1_UNET
from tests.families.record_headers import shapes_of

SHORT = ("num_layers", "n_layers", "num_single_layers", "num_double_layers", "n_refiner_layers")
# Class of diffusers -> family, and what it is called
CLASSES = {
    "AuraFlowTransformer2DModel": ("diffusers", "AuraFlow"),
    "BriaFiboTransformer2DModel": ("diffusers", "Bria"),
    "CogVideoXTransformer3DModel": ("video", "CogVideoX"),
    "CogView4Transformer2DModel": ("diffusers", "CogView4"),
    "ControlNetModel": ("controlnet", "ControlNet"),
    "CosmosTransformer3DModel": ("diffusers", "Cosmos"),
    "DreamLiteUNetModel": ("diffusers", "DreamLite"),
    "ErnieImageTransformer2DModel": ("diffusers", "Ernie-Image"),
    "Flux2Transformer2DModel": ("diffusers", "Flux.2"),
    "Flux3Transformer2DModel": ("diffusers", "Flux.3"),
    "FluxControlNetModel": ("controlnet", "ControlNet"),
    "GlmImageTransformer2DModel": ("diffusers", "GLM-Image"),
    "HunyuanImageTransformer2DModel": ("diffusers", "HunyuanImage"),
    "HunyuanVideoTransformer3DModel": ("video", "HunyuanVideo"),
    "I2VGenXLUNet": ("video", "I2VGen"),
    "Ideogram4Transformer2DModel": ("diffusers", "Ideogram 4"),
    "Kandinsky3UNet": ("diffusers", "Kandinsky 3"),
    "Kandinsky5Transformer3DModel": ("diffusers", "Kandinsky 5"),
    "Krea2Transformer2DModel": ("diffusers", "Krea 2"),
    "LTXVideoTransformer3DModel": ("video", "LTX-Video"),
    "Lumina2Transformer2DModel": ("diffusers", "Lumina Image 2"),
    "MochiTransformer3DModel": ("video", "Mochi"),
    "MotionAdapter": ("controlnet", "motion module"),
    "NucleusMoEImageTransformer2DModel": ("diffusers", "Nucleus-Image"),
    "OvisImageTransformer2DModel": ("diffusers", "Ovis-Image"),
    "PRXTransformer2DModel": ("diffusers", "PRX"),
    "QwenImage21Transformer2DModel": ("diffusers", "Qwen-Image 2"),
    "QwenImageControlNetModel": ("controlnet", "ControlNet"),
    "SD3ControlNetModel": ("controlnet", "ControlNet"),
    "SanaControlNetModel": ("controlnet", "ControlNet"),
    "SanaTransformer2DModel": ("diffusers", "Sana"),
    "SanaVideoTransformer3DModel": ("video", "Sana-Video"),
    "StableCascadeUNet": ("diffusers", "Stable Cascade"),
    "T2IAdapter": ("controlnet", "T2I adapter"),
    "UNet3DConditionModel": ("video", "ModelScope"),
    "UNetMotionModel": ("video", "AnimateDiff"),
    "UNetSpatioTemporalConditionModel": ("video", "Stable Video Diffusion"),
    "WanTransformer3DModel": ("video", "Wan"),
    "AutoencoderDC": ("vae", "VAE"),
    "AutoencoderKLCogVideoX": ("vae", "VAE"),
    "AutoencoderTiny": ("taesd", "TAESD"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_of_diffusers_is_named(name: str, families: Registry[Family]) -> None:
    kind = getattr(diffusers, name)
    config: dict[str, Any] = {key: 2 for key in inspect.signature(kind.__init__).parameters if key in SHORT}
    shapes = shapes_of(of_class(name, **config))
    family, label = CLASSES[name]
    info = identify(header_of(shapes), families)
    assert (info.family, info.supported) == (family, False)
    assert label in info.label
    assert info.label.split(" (")[0] in info.problem


def test_pixart_and_kolors(families: Registry[Family]) -> None:
    with torch.device("meta"):
        pixart = shapes_of(diffusers.PixArtTransformer2DModel(num_layers=2, caption_channels=4096))
        hunyuan = shapes_of(
            diffusers.HunyuanDiT2DModel(num_layers=2, hidden_size=1408, sample_size=128, patch_size=2, in_channels=4)
        )
    assert identify(header_of(pixart), families).label == "PixArt"
    assert identify(header_of(hunyuan), families).label == "HunyuanDiT"
    kolors = shapes_of(
        unet({**SDXL_UNET, "encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj",
              "projection_class_embeddings_input_dim": 5632})
    )  # fmt: skip
    for prefix in ("", "model.diffusion_model."):
        info = identify(header_of(under(prefix, kolors)), families)
        assert (info.label, info.supported) == ("Kolors", False)


@pytest.mark.parametrize(
    ("names", "label"),
    [
        # of the original layouts, whose classes diffusers does not have
        (("double_layers.0.attn.w1q.weight", "cond_seq_linear.weight"), "AuraFlow"),
        (("cap_embedder.0.weight", "noise_refiner.0.attention.qkv.weight", "norm_final.weight"), "Lumina Image 2"),
        (("head.modulation", "blocks.0.self_attn.q.weight"), "Wan"),
        (("blocks.0.cross_attn.q_linear.weight", "blocks.0.mlp.inverted_conv.conv.weight"), "Sana"),
        (("y_embedder.y_embedding", "t_block.1.weight", "x_embedder.proj.weight"), "PixArt"),
        (("mlp_t5.0.weight", "pooler.positional_embedding"), "HunyuanDiT"),
        (("clip_txt_mapper.weight",), "Stable Cascade (stage C)"),
        (("input_blocks.1.0.time_stack.in_layers.2.weight", "time_embed.0.weight"), "Stable Video Diffusion"),
        (("double_stream_blocks.0.block.adaLN_modulation.1.weight",), "HiDream"),
        (("net.x_embedder.proj.1.weight", "net.llm_adapter.blocks.0.cross_attn.q_proj.weight"), "Anima"),
        (("txt_in.individual_token_refiner.blocks.0.norm1.weight", "double_blocks.0.img_attn_qkv.weight"), "Hunyuan"),
        (("distilled_guidance_layer.in_proj.weight", "nerf_blocks.0.param_generator.weight"), "Chroma Radiance"),
        (
            (
                "latent_in.weight",
                "cond_in.weight",
                "double_blocks.0.img_attn.qkv.weight",
                "single_blocks.0.linear1.weight",
            ),
            "Hunyuan3D",
        ),
        (
            (
                "txt_in.individual_token_refiner.blocks.0.norm1.weight",
                "byt5_in.fc1.weight",
                "cond_type_embedding.weight",
            ),
            "HunyuanVideo",
        ),
        (("transformer.rotary_pos_emb.inv_freq", "to_cond_embed.0.weight"), "Stable Audio"),
        (("genre_embedder.weight",), "ACE-Step"),
        (("cap_embedder.0.weight", "noise_refiner.0.attention.qkv.weight", "clip_text_pooled_proj.0.weight"), "NewBie"),
        (
            (
                "double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight",
                "ref_image_refiner.0.attn.to_q.weight",
            ),
            "Boogu",
        ),
        (
            (
                "transformer_blocks.0.img_mlp.w1.weight",
                "transformer_blocks.0.attn.norm_added_q.weight",
                "transformer_blocks.0.img_mod.1.weight",
                "txt_norm.weight",
            ),
            "Lens",
        ),
        (("t_embedder1.mlp.0.weight", "x_embedder.proj1.weight"), "HiDream-O1"),
        (("blocks.31.mlp.all.proj_in_gate.weight", "vid_in.proj.weight"), "SeedVR2"),
        (("lq_proj.latent_proj.0.weight", "core.pixel_embedder.proj.weight"), "PiD"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_other_architectures_are_named(
    names: tuple[str, ...], label: str, prefix: str, families: Registry[Family]
) -> None:
    prefix = "" if names[0].startswith("net.") else prefix
    info = identify(header_of({prefix + name: [8, 8] for name in names}), families)
    assert (info.supported, label in info.label) == (False, True), info.label


@pytest.mark.parametrize(
    ("name", "kind", "model"),
    [
        ("lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight", "LoRA", "Stable Diffusion 1 or 2"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "LoRA", "SDXL"),
        ("unet.down_blocks.2.attentions.0.transformer_blocks.5.attn1.to_q.lora_A.weight", "LoRA", "SDXL"),
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", "LoRA", "Flux"),
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", "LoRA", "Flux"),
        ("diffusion_model.double_blocks.3.img_mlp.0.lora_B.weight", "LoRA", "Flux"),
        ("transformer_blocks.0.img_mlp.net.2.lora_down.weight", "LoRA", "Qwen-Image"),
        ("transformer.transformer_blocks.1.attn.add_q_proj.lora_A.weight", "LoRA", "Stable Diffusion 3"),
        ("diffusion_model.layers.3.attention.to_q.lora_A.weight", "LoRA", "Z-Image"),
        ("diffusion_model.blocks.0.self_attn.q.lora_down.weight", "LoRA", "Wan"),
        ("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a", "LoHa", "Stable Diffusion 1 or 2"),
        ("lycoris_single_blocks_1_linear1.lokr_w1", "LoKr", ""),
        ("lora_unet_single_blocks_1_linear1.dora_scale", "DoRA", "Flux"),
    ],
)
def test_loras_are_named_with_their_model(name: str, kind: str, model: str, families: Registry[Family]) -> None:
    info = identify(header_of({name: [4, 4]}), families)
    assert (info.family, info.label, info.variant) == ("lora", kind, model)
    assert (f"for {model}" in info.problem) == bool(model)


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("ip_adapter.1.to_k_ip.weight", "image_proj.proj.weight"), "IP-Adapter"),
        (("redux_up.weight", "redux_down.weight"), "Flux Redux"),
        (("lllite_unet_input_blocks_4_1.down.0.weight",), "ControlLLLite"),
        (("lora_controlnet", "input_blocks.1.0.emb_layers.1.down"), "Control-LoRA"),
        (("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",), "motion module"),
        (("vision_model.embeddings.patch_embedding.weight",), "CLIP picture encoder"),
        (("768.0.linear.0.weight",), "hypernetwork"),
    ],
)
def test_companions_are_named(names: tuple[str, ...], label: str, families: Registry[Family]) -> None:
    info = identify(header_of({name: [4, 4] for name in names}), families)
    assert (info.label, info.supported) == (label, False)


def test_a_variation_with_tensors_of_its_own_is_not_taken_for_the_plain_model(families: Registry[Family]) -> None:
    with torch.device("meta"):
        shapes = shapes_of(diffusers.FluxTransformer2DModel(num_layers=2, num_single_layers=2))
    info = identify(header_of({**shapes, "extra_embedder.weight": [3072, 64]}), families)
    assert (info.family, info.supported) == ("flux", False)
    assert "variation of Flux.1 that is not known here" in info.problem
    assert "extra_embedder.weight" in info.problem


@pytest.mark.parametrize("width", [1536, 2048])
def test_unclip_is_not_taken_for_sdxl(width: int, families: Registry[Family]) -> None:
    """In the original layout its picture comes in where SDXL has its sizes."""
    added = {
        f"{NET}label_emb.0.0.weight": [1280, width], f"{NET}label_emb.0.0.bias": [1280],
        f"{NET}label_emb.0.2.weight": [1280, 1280], f"{NET}label_emb.0.2.bias": [1280],
    }  # fmt: skip
    info = identify(header_of({**sd2(), **added}, "sd21-unclip"), families)
    assert (info.family, info.variant, info.supported) == ("sd2", "unCLIP", False)


@pytest.mark.parametrize(
    ("name", "channels", "beside", "says"),
    [
        ("zero123", 8, "cc_projection.weight", "Zero123"),
        ("variations", 4, "cond_stage_model.model.visual.proj", "Image Variations"),
        ("iclight_sd15_fc", 8, "", "IC-Light"),
    ],
)
def test_unets_of_stable_diffusion_1_that_draw_after_something_else(
    name: str, channels: int, beside: str, says: str, families: Registry[Family]
) -> None:
    shapes = under(NET, shapes_of(unet({**SD1_UNET, "in_channels": channels})))
    info = identify(header_of({**shapes, **({beside: [768, 772]} if beside else {})}, name), families)
    assert (info.family, info.supported) == ("sd1", False)
    assert says in info.problem


def test_other_tensors_instead_are_another_model_and_no_damage(families: Registry[Family]) -> None:
    with torch.device("meta"):
        shapes = shapes_of(diffusers.FluxTransformer2DModel(num_layers=2, num_single_layers=2))
    shapes["norm_out.other.weight"] = shapes.pop("norm_out.linear.weight")
    problem = identify(header_of(shapes), families).problem
    assert "variation of Flux.1 that is not known here" in problem
    assert "has norm_out.other.weight" in problem
    assert "lacks norm_out.linear.weight" in problem


def test_stable_audio_with_its_autoencoder_is_not_the_autoencoder_alone(families: Registry[Family]) -> None:
    names = ("transformer.rotary_pos_emb.inv_freq", "to_cond_embed.0.weight")
    shapes = {f"model.model.{name}": [8, 8] for name in names}
    info = identify(header_of({**shapes, "pretransform.model.decoder.layers.1.layers.0.beta": [8]}), families)
    assert (info.family, info.label) == ("other", "Stable Audio")


@pytest.mark.parametrize("prefix", ["dit.", "module.", "_orig_mod.", "model.model."])
def test_levels_that_training_programs_leave(prefix: str, families: Registry[Family]) -> None:
    with torch.device("meta"):
        shapes = shapes_of(diffusers.FluxTransformer2DModel(num_layers=2, num_single_layers=2))
    assert identify(header_of(under(prefix, shapes)), families).supported


def test_mage_flow_is_not_taken_for_qwen_image(families: Registry[Family]) -> None:
    model = of_class("QwenImageTransformer2DModel", num_layers=2, in_channels=128, joint_attention_dim=2560)
    info = identify(header_of(shapes_of(model)), families)
    assert (info.label, info.supported) == ("Mage-Flow", False)


def test_a_unet_of_another_width_says_so(families: Registry[Family]) -> None:
    info = identify(header_of(shapes_of(unet({"cross_attention_dim": 512, "attention_head_dim": 8}))), families)
    assert (info.family, info.supported) == ("unet", False)
    assert "texts 512 wide" in info.problem
