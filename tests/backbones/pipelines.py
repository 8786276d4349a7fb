"""Very small pipelines of diffusers with random weights, as folders in its layout, for the adapter's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

WIDTH = 16  # of a text token
WORDS = ("a", "red", "apple", "blue", "pear", "on", "the", "table")
VOCABULARY = ("<pad>", "</s>", "<unk>", "<bos>", "user", "assistant", *WORDS)
CHAT = "{% for message in messages %}user {{ message['content'] }} </s> {% endfor %}assistant"


def small_tokenizer() -> Any:
    """Words of a small vocabulary; all others are unknown."""
    numbers = {word: number for number, word in enumerate(VOCABULARY)}
    words = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<bos>",
        model_max_length=64, chat_template=CHAT,
    )  # fmt: skip


def _t5(kind: type[Any] = T5EncoderModel, config: type[Any] = T5Config) -> Any:
    return kind(
        config(
            vocab_size=len(VOCABULARY), d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=2, num_heads=2,
            feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
        )
    ).eval()  # fmt: skip


def _gemma() -> Any:
    return Gemma2Model(
        Gemma2Config(
            vocab_size=len(VOCABULARY), hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, head_dim=8, pad_token_id=0, eos_token_id=1, bos_token_id=3,
        )
    ).eval()  # fmt: skip


def _kl(channels: int = 4, shift: float | None = None) -> Any:
    """A KL autoencoder of one downsampling by two per block: a factor of 8."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=channels, norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=64,
        scaling_factor=0.3611, shift_factor=shift,
    ).eval()  # fmt: skip


def sana() -> Any:
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=WIDTH,
        sample_size=8,
    ).eval()  # fmt: skip
    vae = AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), downsample_block_type="conv",
        decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
    ).eval()  # fmt: skip
    return SanaPipeline(
        tokenizer=small_tokenizer(), text_encoder=_gemma(), vae=vae, transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    )  # fmt: skip


def pixart() -> Any:
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, norm_num_groups=2,
        cross_attention_dim=16, sample_size=8, patch_size=2, caption_channels=WIDTH, use_additional_conditions=False,
    ).eval()  # fmt: skip
    return PixArtSigmaPipeline(
        tokenizer=small_tokenizer(), text_encoder=_t5(), vae=_kl(), transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )  # fmt: skip


def lumina2() -> Any:
    transformer = Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=24, num_layers=2, num_refiner_layers=1,
        num_attention_heads=2, num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 4, 4), axes_lens=(300, 64, 64),
        cap_feat_dim=WIDTH,
    ).eval()  # fmt: skip
    return Lumina2Pipeline(
        tokenizer=small_tokenizer(), text_encoder=_gemma(), vae=_kl(shift=0.1159), transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def aura_flow() -> Any:
    transformer = AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=WIDTH, caption_projection_dim=16, out_channels=4,
        pos_embed_max_size=256,
    ).eval()  # fmt: skip
    return AuraFlowPipeline(
        tokenizer=small_tokenizer(), text_encoder=_t5(UMT5EncoderModel, UMT5Config), vae=_kl(),
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def klein() -> Any:
    """Flux.2 klein takes the text encoder's layers 9, 18 and 27."""
    text = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(VOCABULARY), hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=27,
            num_attention_heads=2, num_key_value_heads=1, head_dim=8, pad_token_id=0, eos_token_id=1, bos_token_id=3,
        )
    ).eval()  # fmt: skip
    vae = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=64
    ).eval()
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=3 * WIDTH, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    ).eval()  # fmt: skip
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae, text_encoder=text, tokenizer=small_tokenizer(),
        transformer=transformer, is_distilled=False,
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], Any]] = {
    "sana": sana, "pixart": pixart, "lumina2": lumina2, "aura_flow": aura_flow, "klein": klein,
}  # fmt: skip


def write_pipeline(name: str, folder: Path) -> Path:
    """Write the pipeline `name` of BUILDERS to a folder; returns its model_index.json."""
    torch.manual_seed(0)
    pipeline = BUILDERS[name]()
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder / "model_index.json"
