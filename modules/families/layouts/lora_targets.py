"""Which model a network that is added to one was made for: by the names of its layers, and how wide what goes in is.

Programs that train them name layers as the model's own layout does or as diffusers', with dots or with underscores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from modules.core.checkpoint import Header

_LEVEL = r"^(base_model\.model\.|transformer\.|diffusion_model\.|lora_unet_|lora_transformer_|lycoris_)*"
_UNET = r"(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._]"
_DOWN = re.compile(r"[._](lora_down|lora_A)(\.\w+)?(\.weight)?$")
_UP = re.compile(r"[._](lora_up|lora_B)(\.\w+)?(\.weight)?$")


@dataclass(frozen=True)
class _Target:
    """widths: of what goes into the layers that `names` finds, told by LoRAs alone; empty where any will do.

    out: the same of what comes out.
    """

    label: str
    names: re.Pattern[str]
    widths: tuple[int, ...] = ()
    out: tuple[int, ...] = ()


def _target(label: str, names: str, *widths: int, out: tuple[int, ...] = ()) -> _Target:
    return _Target(label, re.compile(names), widths, out)


# The most particular first
_TARGETS = (
    _target("AnimateDiff", r"motion_modules\.\d"),
    _target("Stable Cascade", r"^lora_prior_"),
    _target("Flux.2", r"to_qkv_mlp_proj|(single|double)_stream_modulation"),
    _target("Flux.2", r"double_blocks[._]\d+[._]img_attn[._]proj|single_blocks[._]\d+[._]linear1", 4096, 6144),
    _target("Flux.2", r"double_blocks[._]\d+[._]img_mlp[._]0[._]", out=(18432, 24576, 36864)),
    _target("Chroma", r"distilled_guidance_layer"),
    _target("HunyuanVideo", r"individual_token_refiner|context_embedder[._]token_refiner|img_mlp[._]fc[12]"
                            r"|img_mod[._]linear|double_blocks\.\d+\.img_attn_qkv|lora_unet_single_transformer_blocks_"),
    _target("Flux", r"lora_unet_(double|single)_blocks_\d|(double|single)_blocks\.\d"
                    r"|(?<!joint_)single_transformer_blocks[._]\d"),
    _target("HiDream", r"(double|single)_stream_blocks[._]\d"),
    _target("AuraFlow", r"joint_transformer_blocks[._]\d"),
    _target("Qwen-Image", r"transformer_blocks[._]\d+[._](img|txt)_(mod|mlp)|lora_unet_transformer_blocks_\d+_attn_to"),
    _target("Qwen-Image", _LEVEL + r"transformer_blocks[._](3[89]|[45]\d)[._]attn[._]"),  # the others have fewer
    _target("Stable Diffusion 3", r"joint_blocks[._]\d"),
    _target("Stable Diffusion 3", r"transformer_blocks[._]\d+[._]attn[._]add_[qkv]_proj", 1536, 2432),
    _target("Qwen-Image or Flux", r"transformer_blocks[._]\d+[._]attn[._](add_[qkv]_proj|to_[qkv][._])", 3072),
    _target("Stable Diffusion 3", r"transformer_blocks[._]\d+[._]attn[._]add_[qkv]_proj"),
    _target("Lumina 2", r"(layers|context_refiner|noise_refiner)[._]\d+[._](attention|feed_forward)[._]", 2304),
    _target("Z-Image", r"(layers|context_refiner|noise_refiner)[._]\d+[._](attention|feed_forward)[._]"),
    _target("OmniGen2", r"(layers|ref_image_refiner|noise_refiner)\.\d+\.attn\.to_"),
    _target("Anima", r"llm_adapter[._]"),
    _target("Anima or Cosmos", r"blocks[._]\d+[._](self_attn|cross_attn)[._](q|k|v|output)_proj"),
    _target("Krea 2", r"blocks[._]\d+[._]attn[._](wq|wk|wv|wo)[._]|txtfusion"),
    _target("Wan", r"blocks[._]\d+[._](self_attn|cross_attn)[._]|(^|\.)blocks\.\d+\.(attn[12]\.to_|ffn\.net)"),
    _target("HunyuanDiT", r"blocks[._]\d+[._]attn[12][._](Wqkv|q_proj|kv_proj)"),
    _target("LTX-Video", r"transformer_blocks[._]\d+[._]audio_"),
    _target("LTX-Video", _LEVEL + r"transformer_blocks[._]\d+[._]attn1[._]to_q", 2048, 4096),
    _target("CogVideoX", _LEVEL + r"transformer_blocks[._]\d+[._]attn1[._]to_q", 1920, 3072),
    _target("Sana", _LEVEL + r"transformer_blocks[._]\d+[._]attn1[._]to_q", 1600, 2240),
    _target("PixArt or Sana", _LEVEL + r"transformer_blocks[._]\d+[._]attn1[._]to_q", 1152),
    _target("SDXL", r"lora_te2_|text_encoder_2\.|(input|output)_blocks_\d+_1_transformer_blocks_[1-9]"
                    r"|(down|up)_blocks[._]\d[._]attentions[._]\d[._]transformer_blocks[._][1-9]"),
    _target("SDXL", _UNET + r".*attn2[._]to_[kv]", 2048),
    _target("Stable Diffusion 2", _UNET + r".*attn2[._]to_[kv]", 1024),
    _target("Stable Diffusion 1", _UNET + r".*attn2[._]to_[kv]", 768),
    _target("Stable Diffusion 1 or 2", r"(lora|oft)_unet_(down|up|mid|input|output|middle)_|unet\.|lora_te_text_model_"
                                       r"|text_encoder\."),
    _target("Stable Diffusion 1, 2 or XL", r"^(base_model\.model\.)?(down|up|mid)_blocks?\."),
)  # fmt: skip


def lora_target(header: Header) -> str:
    """What the model is called that the network was made for; "" where nothing tells."""
    return next((target.label for target in _TARGETS if any(_fits(target, header))), "")


def _fits(target: _Target, header: Header) -> Iterator[bool]:
    for name, info in header.tensors.items():
        if not target.names.search(name):
            continue
        if not target.widths and not target.out:
            yield True
        elif target.widths and len(info.shape) == 2 and _DOWN.search(name):
            yield info.shape[1] in target.widths
        elif target.out and len(info.shape) == 2 and _UP.search(name):
            yield info.shape[0] in target.out
