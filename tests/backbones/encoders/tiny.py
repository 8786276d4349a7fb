"""Tiny text encoders with random weights, as files, and the tokenizers that transformers makes of the bundled data."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer, Qwen2Tokenizer, T5Tokenizer

from modules.core.checkpoint import ModelInfo
from modules.diffusion.backbone import Placement
from modules.prompting import clip, qwen
from modules.prompting.sentencepiece import read_pieces
from modules.prompting.t5 import SENTINELS, packed_pieces

CPU = torch.device("cpu")
FP32 = Placement(
    device=CPU, dtype=torch.float32, vae_dtype=torch.float32, text_device=CPU, unet_device=CPU, vae_device=CPU
)
SHORT = "a red apple on a blue background"
LONG = ", ".join(["a red apple"] * 300)


def written(
    module: nn.Module, path: Path, prefix: str = "", config: Mapping[str, Any] | None = None
) -> tuple[ModelInfo, dict[str, str]]:
    """Write a module's weights under `prefix`: the file's description, and its name table."""
    tensors = {prefix + name: tensor.clone().contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, path)
    info = ModelInfo(name=path.stem, path=str(path), family="text_encoder", label="Text encoder", supported=True)
    return info, {name.removeprefix(prefix): name for name in tensors}


def in_folder(module: nn.Module, folder: Path, component: str) -> tuple[ModelInfo, dict[str, str]]:
    """The same as the only component of a folder in diffusers' layout."""
    (folder / component).mkdir(parents=True, exist_ok=True)
    index = {"_class_name": "Pipeline", component: ["transformers", type(module).__name__]}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / component / "config.json").write_text("{}", encoding="utf-8")
    written(module, folder / component / "model.safetensors")
    path = folder / "model_index.json"
    info = ModelInfo(name=folder.name, path=str(path), family="text_encoder", label="Text encoder", supported=True)
    return info, {name: f"{component}.{name}" for name in module.state_dict()}


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with weights that let every part of it count, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            spread = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * spread if "norm" in name and name.endswith("weight") else 0.3 * spread)
    return module.eval()


@functools.cache
def their_clip(pad: str = clip.END) -> Any:
    """transformers' CLIP tokenizer. pad: its padding token; "!" has the number 0."""
    pairs = clip.merges()
    return CLIPTokenizer(vocab=dict(clip.vocabulary(pairs)), merges=list(pairs), pad_token=pad, model_max_length=77)


@functools.cache
def their_t5() -> Any:
    """transformers' T5 tokenizer."""
    model = read_pieces(gzip.decompress(packed_pieces()))
    vocab = [*model.pieces, *((text, 0.0) for text in SENTINELS)]
    return T5Tokenizer(vocab=vocab, _spm_precompiled_charsmap=model.table, model_max_length=512)


@functools.cache
def their_qwen(special: tuple[str, ...] = qwen.SPECIAL) -> Any:
    """transformers' Qwen tokenizer, with Qwen's chat template for plain messages."""
    pairs = qwen.merges()
    tokenizer = Qwen2Tokenizer(vocab=qwen.vocabulary(pairs), merges=list(pairs))
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer
