"""A modular pipeline at tiny size, as a copy of a hub's folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AnimaAutoBlocks,
    AnimaModularPipeline,
    AnimaTextConditioner,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)
from transformers import Qwen3Config, Qwen3Model

from tests.backbones.pipelines.parts import VOCABULARY, WIDTH, kl_qwen, language, small_tokenizer


def write_anima(folder: Path, *, padded: bool = False) -> Path:
    """Write Anima to a folder; returns its modular_model_index.json. Its parts are said to lie on a hub.

    padded: as it is published, which needs torchvision.
    """
    torch.manual_seed(0)
    transformer = CosmosTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=1, mlp_ratio=2,
        text_embed_dim=WIDTH, adaln_lora_dim=4, max_size=(4, 32, 32), patch_size=(1, 2, 2), rope_scale=(1.0, 1.0, 1.0),
        concat_padding_mask=padded, extra_pos_embed_type=None,
    ).eval()  # fmt: skip
    conditioner = AnimaTextConditioner(
        source_dim=WIDTH, target_dim=WIDTH, model_dim=WIDTH, num_layers=1, num_attention_heads=2, mlp_ratio=1.0,
        target_vocab_size=len(VOCABULARY), min_sequence_length=16,
    ).eval()  # fmt: skip
    pipeline = AnimaModularPipeline(AnimaAutoBlocks())
    pipeline.update_components(
        text_encoder=Qwen3Model(Qwen3Config(**language())).eval(), tokenizer=small_tokenizer(),
        t5_tokenizer=small_tokenizer(), text_conditioner=conditioner, transformer=transformer, vae=kl_qwen(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    pipeline.save_pretrained(str(folder), safe_serialization=True, overwrite_modular_index=True)
    index = folder / "modular_model_index.json"
    index.write_text(index.read_text().replace(json.dumps(str(folder)), '"someone/anima"'))
    return index
