"""Pipelines that read their prompts by a language model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AdaptiveProjectedMixGuidance,
    AutoencoderKLHunyuanImage,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DDPMWuerstchenScheduler,
    DPMSolverMultistepScheduler,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    LuminaPipeline,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    StableCascadeCombinedPipeline,
    StableCascadeUNet,
    UNet2DConditionModel,
)
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    GlmConfig,
    GlmModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Mistral3Model,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLModel,
)

from tests.backbones.pipelines.parts import (
    VOCABULARY,
    WIDTH,
    deep_compression,
    gemma,
    kl,
    kl_flux2,
    kl_qwen,
    language,
    qwen3_vision,
    qwen_vision,
    small_tokenizer,
    t5,
)


def _sana_transformer(**values: Any) -> Any:
    return SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=WIDTH,
        sample_size=8, **values,
    ).eval()  # fmt: skip


def sana() -> Any:
    return SanaPipeline(
        tokenizer=small_tokenizer(), text_encoder=gemma(), vae=deep_compression(), transformer=_sana_transformer(),
        scheduler=DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    )  # fmt: skip


def sana_sprint() -> Any:
    return SanaSprintPipeline(
        tokenizer=small_tokenizer(), text_encoder=gemma(), vae=deep_compression(),
        transformer=_sana_transformer(qk_norm="rms_norm_across_heads", guidance_embeds=True), scheduler=SCMScheduler(),
    )  # fmt: skip


def lumina() -> Any:
    transformer = LuminaNextDiT2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=16, num_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=8, cross_attention_dim=WIDTH,
    ).eval()  # fmt: skip
    return LuminaPipeline(
        tokenizer=small_tokenizer(), text_encoder=gemma(), vae=kl(), transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def lumina2() -> Any:
    transformer = Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=24, num_layers=2, num_refiner_layers=1,
        num_attention_heads=2, num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 4, 4), axes_lens=(300, 64, 64),
        cap_feat_dim=WIDTH,
    ).eval()  # fmt: skip
    return Lumina2Pipeline(
        tokenizer=small_tokenizer(), text_encoder=gemma(), vae=kl(shift=0.1159), transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def _flux2_transformer(guidance: bool) -> Any:
    return Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=3 * WIDTH, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    ).eval()  # fmt: skip


def klein() -> Any:
    """Flux.2 klein takes the text encoder's layers 9, 18 and 27."""
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=kl_flux2(),
        text_encoder=Qwen3ForCausalLM(Qwen3Config(**language(num_hidden_layers=27))).eval(),
        tokenizer=small_tokenizer(), transformer=_flux2_transformer(False), is_distilled=False,
    )  # fmt: skip


def _mistral(kind: type[Any], layers: int = 2) -> Any:
    return kind(
        Mistral3Config(
            text_config={**language(num_hidden_layers=layers), "model_type": "mistral"},
            vision_config={
                "model_type": "pixtral", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": WIDTH, "image_size": 8, "patch_size": 4,
            },
            image_token_index=6, spatial_merge_size=1,
        )
    ).eval()  # fmt: skip


def flux2() -> Any:
    """Flux.2 dev takes the text encoder's layers 10, 20 and 30, and messages of parts.

    Its folders have a processor, which needs torchvision for the pictures that are not read here: a tokenizer is asked
    the same.
    """
    chat = "{% for message in messages %}{{ message['role'] }} {{ message['content'][0]['text'] }} {% endfor %}"
    tokenizer = small_tokenizer()
    tokenizer.chat_template = chat
    return Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=kl_flux2(),
        text_encoder=_mistral(Mistral3ForConditionalGeneration, 30), tokenizer=tokenizer,
        transformer=_flux2_transformer(True),
    )  # fmt: skip


def ernie() -> Any:
    transformer = ErnieImageTransformer2DModel(
        hidden_size=24, num_attention_heads=2, num_layers=1, ffn_hidden_size=16, in_channels=16, out_channels=16,
        text_in_dim=WIDTH, rope_axes_dim=(4, 4, 4),
    ).eval()  # fmt: skip
    return ErnieImagePipeline(
        transformer=transformer, vae=kl_flux2(), text_encoder=_mistral(Mistral3Model), tokenizer=small_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def cogview4() -> Any:
    transformer = CogView4Transformer2DModel(
        patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, out_channels=4,
        text_embed_dim=WIDTH, time_embed_dim=8, condition_dim=4, sample_size=8, rope_axes_dim=(8, 8),
    ).eval()  # fmt: skip
    return CogView4Pipeline(
        tokenizer=small_tokenizer(), text_encoder=GlmModel(GlmConfig(**language())).eval(), vae=kl(),
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )  # fmt: skip


def krea2() -> Any:
    transformer = Krea2Transformer2DModel(
        in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=16, timestep_embed_dim=8, text_hidden_dim=WIDTH, num_text_layers=2,
        text_num_attention_heads=2, text_num_key_value_heads=1, text_intermediate_size=16,
        num_layerwise_text_blocks=1, num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
    ).eval()  # fmt: skip
    return Krea2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), vae=kl_qwen(),
        text_encoder=qwen3_vision(Qwen3VLModel), tokenizer=small_tokenizer(), transformer=transformer,
        text_encoder_select_layers=(1, 2),
    )  # fmt: skip


def ovis() -> Any:
    transformer = OvisImageTransformer2DModel(
        in_channels=16, out_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(2, 4, 2),
    ).eval()  # fmt: skip
    return OvisImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=kl(shift=0.1),
        text_encoder=Qwen3Model(Qwen3Config(**language())).eval(), tokenizer=small_tokenizer(), transformer=transformer,
    )  # fmt: skip


def longcat() -> Any:
    """Its processor is of pictures, which only its editing sibling sees: here it is the tokenizer once more."""
    transformer = LongCatImageTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=[2, 4, 2],
    ).eval()  # fmt: skip
    return LongCatImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=kl(16, 0.1), text_encoder=qwen_vision(),
        tokenizer=small_tokenizer(), text_processor=small_tokenizer(), transformer=transformer,
    )  # fmt: skip


def kolors() -> Any:
    """Its text encoder and its tokenizer are classes of diffusers.

    words.model was trained by it on two lines of the WORDS, without normalisation.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its module compiles a function in torch's old way
        from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer, KolorsPipeline
        from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig

    tokenizer = ChatGLMTokenizer(str(Path(__file__).with_name("words.model")))
    text = ChatGLMModel(
        ChatGLMConfig(
            num_layers=2, padded_vocab_size=64, hidden_size=WIDTH, ffn_hidden_size=WIDTH, kv_channels=8,
            num_attention_heads=2, multi_query_attention=True, multi_query_group_num=1, add_qkv_bias=True,
            original_rope=True,
        )
    ).eval()  # fmt: skip
    for values in text.parameters():  # the class leaves them as it found them in memory
        torch.nn.init.normal_(values, std=0.2)
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8), layers_per_block=1, sample_size=8, norm_num_groups=2, attention_head_dim=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=6 * 8 + WIDTH, cross_attention_dim=8,
        encoder_hid_dim=WIDTH, encoder_hid_dim_type="text_proj",
    ).eval()  # fmt: skip
    return KolorsPipeline(
        vae=kl(), text_encoder=text, tokenizer=tokenizer, unet=unet,
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.014, beta_schedule="scaled_linear"),
    )  # fmt: skip


def cascade() -> Any:
    """Stable Cascade in one: a prior, and what paints after it, each with a scheduler of its own."""
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(VOCABULARY), hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1,
            num_attention_heads=2, projection_dim=WIDTH, pad_token_id=0, eos_token_id=1, bos_token_id=3,
        )
    ).eval()  # fmt: skip
    small: dict[str, Any] = {
        "conditioning_dim": 16, "num_attention_heads": (2, 2), "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1), "clip_text_pooled_in_channels": WIDTH,
    }  # fmt: skip
    prior = StableCascadeUNet(
        **small, in_channels=4, out_channels=4, block_out_channels=(16, 16), clip_text_in_channels=WIDTH,
        clip_image_in_channels=WIDTH, switch_level=(False,),
    ).eval()  # fmt: skip
    decoder = StableCascadeUNet(
        **small, in_channels=4, out_channels=4, block_out_channels=(16, 16), patch_size=1, effnet_in_channels=4,
    ).eval()  # fmt: skip
    tokenizer = small_tokenizer()
    return StableCascadeCombinedPipeline(
        tokenizer=tokenizer, text_encoder=text, decoder=decoder, scheduler=DDPMWuerstchenScheduler(),
        vqgan=PaellaVQModel(embed_dim=8, num_vq_embeddings=32, levels=2, bottleneck_blocks=1).eval(),
        prior_prior=prior, prior_text_encoder=text, prior_tokenizer=tokenizer,
        prior_scheduler=DDPMWuerstchenScheduler(),
    )  # fmt: skip


def _hunyuan_image(guided: bool) -> Any:
    transformer = HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=(1, 1), guidance_embeds=not guided, text_embed_dim=WIDTH,
        text_embed_2_dim=WIDTH, rope_axes_dim=(4, 4),
    ).eval()  # fmt: skip
    vae = AutoencoderKLHunyuanImage(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 32, 32), layers_per_block=1,
        spatial_compression_ratio=8, sample_size=64, scaling_factor=0.476986,
    ).eval()  # fmt: skip
    guider = AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=1) if guided else None
    return HunyuanImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), vae=vae, text_encoder=qwen_vision(),
        tokenizer=small_tokenizer(), text_encoder_2=t5(), tokenizer_2=small_tokenizer(), transformer=transformer,
        guider=guider,
    )  # fmt: skip


def hunyuan_image() -> Any:
    """Guided by a part of its own."""
    return _hunyuan_image(True)


def hunyuan_image_distilled() -> Any:
    """Guided by a number that the network takes."""
    return _hunyuan_image(False)


BUILDERS: dict[str, Callable[[], Any]] = {
    "sana": sana, "sana_sprint": sana_sprint, "lumina": lumina, "lumina2": lumina2, "klein": klein, "flux2": flux2,
    "ernie": ernie, "cogview4": cogview4, "krea2": krea2, "ovis": ovis, "longcat": longcat, "kolors": kolors,
    "hunyuan_image": hunyuan_image, "hunyuan_image_distilled": hunyuan_image_distilled,
}  # fmt: skip
