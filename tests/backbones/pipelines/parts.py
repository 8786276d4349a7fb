"""Tokenizers, text encoders and autoencoders at tiny size, and what the pipelines have in common."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLQwenImage
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    T5Config,
    T5EncoderModel,
)

WIDTH = 16  # of a text token
WORDS = ("a", "red", "apple", "blue", "pear", "on", "the", "table")
VOCABULARY = ("<pad>", "</s>", "<unk>", "<bos>", "user", "assistant", *WORDS)
CHAT = "{% for message in messages %}user {{ message['content'] }} </s> {% endfor %}assistant"


def small_tokenizer() -> Any:
    """Words of a small vocabulary; all others, and every mark between them, are unknown."""
    numbers = {word: number for number, word in enumerate(VOCABULARY)}
    words = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<bos>",
        model_max_length=64, chat_template=CHAT,
    )  # fmt: skip


def t5(kind: type[Any] = T5EncoderModel, config: type[Any] = T5Config) -> Any:
    return kind(
        config(
            vocab_size=len(VOCABULARY), d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=2, num_heads=2,
            feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
        )
    ).eval()  # fmt: skip


def language(**values: Any) -> dict[str, Any]:
    """The configuration that language models of one head for keys have in common."""
    return {
        "vocab_size": len(VOCABULARY), "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0, "eos_token_id": 1,
        "bos_token_id": 3, **values,
    }  # fmt: skip


def gemma() -> Any:
    return Gemma2Model(Gemma2Config(**language(num_key_value_heads=2))).eval()


_QWEN_VISION = {"depth": 1, "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_heads": 2, "out_hidden_size": WIDTH}


def qwen_vision(kind: type[Any] = Qwen2_5_VLForConditionalGeneration) -> Any:
    """Qwen 2.5 VL, of which text to image pipelines use the words alone."""
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        text_config=language(rope_parameters=rope), vision_config=_QWEN_VISION, image_token_id=6, video_token_id=7,
        vision_start_token_id=8, vision_end_token_id=9,
    )  # fmt: skip
    return kind(config).eval()


def qwen3_vision(kind: type[Any], layers: int = 2) -> Any:
    """The same of Qwen 3 VL."""
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0, "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=language(rope_parameters=rope, num_hidden_layers=layers),
        vision_config={**_QWEN_VISION, "deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        image_token_id=6, video_token_id=7, vision_start_token_id=8, vision_end_token_id=9,
    )  # fmt: skip
    return kind(config).eval()


_KL: dict[str, Any] = {
    "block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 64,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip


def kl(channels: int = 4, shift: float | None = None) -> Any:
    """A KL autoencoder of one downsampling by two per block but the last: a factor of 8."""
    return AutoencoderKL(**_KL, latent_channels=channels, scaling_factor=0.3611, shift_factor=shift).eval()


def kl_flux2() -> Any:
    return AutoencoderKLFlux2(**_KL, latent_channels=4).eval()


def kl_qwen() -> Any:
    return AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    ).eval()


def deep_compression() -> Any:
    return AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), downsample_block_type="conv",
        decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
    ).eval()  # fmt: skip
