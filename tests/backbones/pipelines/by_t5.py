"""Pipelines that read their prompts by T5 and its like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    BriaPipeline,
    BriaTransformer2DModel,
    CogVideoXDPMScheduler,
    CogView3PlusPipeline,
    CogView3PlusTransformer2DModel,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    IFPipeline,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PRXPipeline,
    PRXTransformer2DModel,
    UNet2DConditionModel,
    VQModel,
)
from transformers import BertConfig, BertModel, T5GemmaEncoder, UMT5Config, UMT5EncoderModel
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaConfig, T5GemmaModuleConfig

from tests.backbones.pipelines.parts import VOCABULARY, WIDTH, deep_compression, kl, language, small_tokenizer, t5


def _pixart_transformer() -> Any:
    return PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, norm_num_groups=2,
        cross_attention_dim=16, sample_size=8, patch_size=2, caption_channels=WIDTH, use_additional_conditions=False,
    ).eval()  # fmt: skip


def pixart_alpha() -> Any:
    return PixArtAlphaPipeline(
        tokenizer=small_tokenizer(), text_encoder=t5(), vae=kl(), transformer=_pixart_transformer(),
        scheduler=DPMSolverMultistepScheduler(),
    )  # fmt: skip


def pixart() -> Any:
    return PixArtSigmaPipeline(
        tokenizer=small_tokenizer(), text_encoder=t5(), vae=kl(), transformer=_pixart_transformer(),
        scheduler=DPMSolverMultistepScheduler(),
    )  # fmt: skip


def aura_flow() -> Any:
    transformer = AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=WIDTH, caption_projection_dim=16, out_channels=4,
        pos_embed_max_size=256,
    ).eval()  # fmt: skip
    return AuraFlowPipeline(
        tokenizer=small_tokenizer(), text_encoder=t5(UMT5EncoderModel, UMT5Config), vae=kl(),
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def hunyuan_dit() -> Any:
    """Its folders have no safety checker: such parts are null in their model_index.json."""
    bert = BertModel(
        BertConfig(
            vocab_size=len(VOCABULARY), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=WIDTH,
        )
    ).eval()  # fmt: skip
    transformer = HunyuanDiT2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        cross_attention_dim=WIDTH, cross_attention_dim_t5=WIDTH, pooled_projection_dim=16, hidden_size=16,
        activation_fn="gelu-approximate",
    ).eval()  # fmt: skip
    return HunyuanDiTPipeline(
        vae=kl(), text_encoder=bert, tokenizer=small_tokenizer(), transformer=transformer,
        scheduler=DDPMScheduler(prediction_type="v_prediction"), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, text_encoder_2=t5(), tokenizer_2=small_tokenizer(),
    )  # fmt: skip


def cogview3() -> Any:
    transformer = CogView3PlusTransformer2DModel(
        patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, out_channels=4,
        text_embed_dim=WIDTH, time_embed_dim=8, condition_dim=2, pos_embed_max_size=8, sample_size=8,
    ).eval()  # fmt: skip
    return CogView3PlusPipeline(
        tokenizer=small_tokenizer(), text_encoder=t5(), vae=kl(), transformer=transformer,
        scheduler=CogVideoXDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
    )  # fmt: skip


def bria() -> Any:
    transformer = BriaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=WIDTH, axes_dims_rope=[2, 4, 2],
    ).eval()  # fmt: skip
    return BriaPipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), vae=kl(shift=0.1), text_encoder=t5(),
        tokenizer=small_tokenizer(),
    )  # fmt: skip


def kandinsky3() -> Any:
    unet = Kandinsky3UNet(
        in_channels=4, time_embedding_dim=8, groups=2, attention_head_dim=4, layers_per_block=3,
        block_out_channels=(32, 64), cross_attention_dim=8, encoder_hid_dim=WIDTH,
    ).eval()  # fmt: skip
    movq = VQModel(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4,
        norm_num_groups=4, norm_type="spatial", num_vq_embeddings=12, vq_embed_dim=4,
        up_block_types=("AttnUpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip
    return Kandinsky3Pipeline(
        tokenizer=small_tokenizer(), text_encoder=t5(), unet=unet, scheduler=DDPMScheduler(), movq=movq
    )


def deep_floyd() -> Any:
    """Its first stage: pixels instead of latents, and a learned variance."""
    unet = UNet2DConditionModel(
        sample_size=32, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=2, in_channels=3,
        out_channels=6, cross_attention_dim=8, encoder_hid_dim=WIDTH, attention_head_dim=4,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", addition_embed_type="text", addition_embed_type_num_heads=2,
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    ).eval()  # fmt: skip
    return IFPipeline(
        tokenizer=small_tokenizer(), text_encoder=t5(), unet=unet,
        scheduler=DDPMScheduler(variance_type="learned_range"),
        safety_checker=None, feature_extractor=None, watermarker=None, requires_safety_checker=False,
    )  # fmt: skip


def prx() -> Any:
    text = T5GemmaEncoder(T5GemmaModuleConfig(**language(num_key_value_heads=2), dropout_rate=0.0)).eval()
    transformer = PRXTransformer2DModel(
        in_channels=4, patch_size=1, context_in_dim=WIDTH, hidden_size=8, mlp_ratio=2.0, num_heads=2, depth=1,
        axes_dim=[2, 2],
    ).eval()  # fmt: skip
    return PRXPipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), text_encoder=text,
        tokenizer=small_tokenizer(), vae=deep_compression(), default_sample_size=512,
    )  # fmt: skip


def as_prx_is_published(index: Path) -> None:
    """Its text encoder is half of a model whose configuration lies with it, and a class that diffusers adds."""
    told = json.loads(index.read_text())
    index.write_text(json.dumps({**told, "text_encoder": ["transformers", "T5GemmaEncoder"]}))
    half = T5GemmaModuleConfig.from_pretrained(index.parent / "text_encoder")
    T5GemmaConfig(encoder=half, decoder=half, vocab_size=len(VOCABULARY)).save_pretrained(index.parent / "text_encoder")


BUILDERS: dict[str, Callable[[], Any]] = {
    "pixart": pixart, "pixart_alpha": pixart_alpha, "aura_flow": aura_flow, "hunyuan_dit": hunyuan_dit,
    "cogview3": cogview3, "bria": bria, "kandinsky3": kandinsky3, "deep_floyd": deep_floyd, "prx": prx,
}  # fmt: skip
