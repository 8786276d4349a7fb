"""Networks that are added to a model: which kind, and which model they were made for, by published names and widths."""

from __future__ import annotations

import pytest

from modules.core.family import Family, identify
from modules.core.plugin import Registry
from tests.families.published import header_of

BLOCK = "down_blocks_1_attentions_0_transformer_blocks_0"


@pytest.mark.parametrize(
    ("name", "shape", "model"),
    [
        # the width of the texts tells models of one architecture apart
        (f"lora_unet_{BLOCK}_attn2_to_k.lora_down.weight", [4, 768], "Stable Diffusion 1"),
        (f"lora_unet_{BLOCK}_attn2_to_k.lora_down.weight", [4, 1024], "Stable Diffusion 2"),
        (f"lora_unet_{BLOCK}_attn2_to_k.lora_down.weight", [4, 2048], "SDXL"),
        (f"lora_unet_{BLOCK}_attn2_to_k.lora_up.weight", [2048, 4], "Stable Diffusion 1 or 2"),
        ("transformer.transformer_blocks.3.attn.add_q_proj.lora_A.weight", [16, 1536], "Stable Diffusion 3"),
        ("transformer.transformer_blocks.3.attn.add_q_proj.lora_A.weight", [16, 3072], "Qwen-Image or Flux"),
        ("transformer_blocks.59.attn.add_k_proj.lora_down.weight", [16, 3072], "Qwen-Image"),
        ("diffusion_model.double_blocks.0.img_attn.proj.lora_A.weight", [16, 3072], "Flux"),
        ("diffusion_model.double_blocks.0.img_attn.proj.lora_A.weight", [16, 6144], "Flux.2"),
        ("diffusion_model.double_blocks.0.img_mlp.0.lora_B.weight", [18432, 16], "Flux.2"),
        ("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj.lora_A.weight", [16, 6144], "Flux.2"),
        ("lora_transformer_single_transformer_blocks_0_attn_to_q.lora_down.weight", [16, 3072], "Flux"),
        ("lora_unet_distilled_guidance_layer_in_proj.lora_down.weight", [16, 64], "Chroma"),
        ("diffusion_model.layers.0.attention.qkv.lora_A.weight", [16, 2304], "Lumina 2"),
        ("diffusion_model.layers.0.attention.to_q.lora_A.weight", [16, 3840], "Z-Image"),
        ("lora_unet_double_blocks_0_img_mlp_fc1.lora_down.weight", [16, 3072], "HunyuanVideo"),
        ("transformer.double_blocks.0.img_attn_qkv.lora_A.weight", [16, 3072], "HunyuanVideo"),
        ("lora_unet_blocks_0_self_attn_q_proj.lora_down.weight", [16, 2048], "Anima or Cosmos"),
        ("lora_unet_blocks_0_self_attn_q.lora_down.weight", [16, 5120], "Wan"),
        ("transformer.blocks.0.attn1.to_q.lora_A.weight", [16, 5120], "Wan"),
        ("lora_unet_blocks_0_attn_wq.lora_down.weight", [32, 6144], "Krea 2"),
        ("lora_unet_blocks_0_attn1_Wqkv.lora_down.weight", [16, 1408], "HunyuanDiT"),
        ("diffusion_model.double_stream_blocks.0.block.attn1.to_q.lora_A.weight", [16, 2560], "HiDream"),
        ("diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight", [16, 2048], "LTX-Video"),
        ("transformer.transformer_blocks.0.attn1.to_q.lora_A.weight", [16, 1920], "CogVideoX"),
        ("unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.lora_A.weight", [8, 320], "AnimateDiff"),
    ],
)
def test_names_and_widths_tell_the_model(name: str, shape: list[int], model: str, families: Registry[Family]) -> None:
    info = identify(header_of({name: shape}), families)
    assert (info.family, info.label, info.variant) == ("lora", "LoRA", model)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight", "a LoRA"),
        ("double_blocks.0.processor.qkv_lora1.up.weight", "a LoRA"),
        ("single_transformer_blocks.0.mlp_fc1.lora_down", "a LoRA"),
        (f"lora_unet_{BLOCK}_attn1_to_q.b1.weight", "a GLoRA"),
        (f"lora_unet_{BLOCK}_attn1_to_q.on_input", "an IA3"),
        ("unet.down_blocks.0.attentions.0.proj_in.boft_R", "an OFT"),
        ("lora_unet_down_blocks_0_attentions_0_norm.w_norm", "a full LyCORIS"),
    ],
)
def test_kinds_that_programs_write(name: str, kind: str, families: Registry[Family]) -> None:
    info = identify(header_of({name: [4, 4]}), families)
    assert info.family == "lora"
    assert info.problem.startswith(f"this is {kind} for ")


def test_an_adapter_with_loras_within_is_an_adapter(families: Registry[Family]) -> None:
    names = ("ip_adapter.0.to_q_lora.down.weight", "image_proj.proj.0.weight")
    assert identify(header_of({name: [4, 4] for name in names}), families).label == "IP-Adapter"
