"""Encoders from the tables that families make of the layouts that files have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from modules.backbones.encoders.clip import CLIP_G, load_clip
from modules.backbones.encoders.qwen import load_qwen
from modules.backbones.encoders.t5 import load_t5
from modules.core.checkpoint import ModelInfo, read_header
from modules.families.layouts.parts import text_parts
from modules.prompting.qwen import QWEN_IMAGE
from tests.backbones.encoders.test_clip import near
from tests.backbones.encoders.test_t5 import CONFIG
from tests.backbones.encoders.tiny import FP32, SHORT, randomised, written


def read(path: Path) -> tuple[ModelInfo, Any, Any]:
    """Description, names and configuration of the text encoder in a file, from its header."""
    header = read_header(path)
    (network,) = text_parts(header).networks.values()
    info = ModelInfo(name=path.stem, path=str(path), family="text_encoder", label="Text encoder", supported=True)
    return info, network.names, network.config


def open_clip(module: Any, width: int) -> dict[str, torch.Tensor]:
    """A module's weights under OpenCLIP's names: query, key and value in one, the projection turned around."""
    old = {name.removeprefix("text_model."): tensor for name, tensor in module.state_dict().items()}
    new = {
        "token_embedding.weight": old["embeddings.token_embedding.weight"],
        "positional_embedding": old["embeddings.position_embedding.weight"],
        "text_projection": old["text_projection.weight"].t(),
    }
    for leaf in ("weight", "bias"):
        new[f"ln_final.{leaf}"] = old[f"final_layer_norm.{leaf}"]
        for i in range(module.config.num_hidden_layers):
            here, there = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
            joined = [old[f"{here}.self_attn.{letter}_proj.{leaf}"] for letter in "qkv"]
            new[f"{there}.attn.in_proj_{leaf}"] = torch.cat(joined)
            new[f"{there}.attn.out_proj.{leaf}"] = old[f"{here}.self_attn.out_proj.{leaf}"]
            for ours, theirs in {"layer_norm1": "ln_1", "layer_norm2": "ln_2"}.items():
                new[f"{there}.{theirs}.{leaf}"] = old[f"{here}.{ours}.{leaf}"]
            for ours, theirs in {"fc1": "c_fc", "fc2": "c_proj"}.items():
                new[f"{there}.mlp.{theirs}.{leaf}"] = old[f"{here}.mlp.{ours}.{leaf}"]
    assert new["transformer.resblocks.0.attn.in_proj_bias"].shape == (3 * width,)
    return {name: tensor.clone().contiguous() for name, tensor in new.items()}


@pytest.mark.parametrize("layout", ["transformers", "open_clip"])
def test_clip(tmp_path: Path, layout: str) -> None:
    config = {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 2,
        "projection_dim": 128, "hidden_act": "quick_gelu",
    }  # fmt: skip
    module: Any = randomised(CLIPTextModelWithProjection(CLIPTextConfig(**config)))
    straight = load_clip(*written(module, tmp_path / "straight.safetensors"), config, FP32, layer=CLIP_G)
    tensors = module.state_dict() if layout == "transformers" else open_clip(module, 128)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "file.safetensors")
    info, names, found = read(tmp_path / "file.safetensors")
    ours, theirs = load_clip(info, names, found, FP32, layer=CLIP_G).encode(SHORT), straight.encode(SHORT)
    assert near(ours.hidden, theirs.hidden)
    assert near(ours.pooled, theirs.pooled)


def test_t5(tmp_path: Path) -> None:
    module: Any = randomised(T5EncoderModel(T5Config(**CONFIG)))
    module.encoder.set_input_embeddings(module.shared)
    info, names = written(module, tmp_path / "t5.safetensors")
    wanted = load_t5(info, names, CONFIG, FP32).encode(SHORT).hidden
    assert near(load_t5(*read(tmp_path / "t5.safetensors"), FP32).encode(SHORT).hidden, wanted)


def test_qwen(tmp_path: Path) -> None:
    """Of a file with a head, which is left out; heads have 128 channels, as no shape tells them."""
    config = {
        "vocab_size": 151936, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 128, "tie_word_embeddings": False,
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 1e6}
    module: Any = randomised(Qwen2ForCausalLM(Qwen2Config(**config, rope_parameters=rope)))
    info, _ = written(module, tmp_path / "qwen.safetensors")
    names = {name.removeprefix("model."): name for name in module.state_dict() if name.startswith("model.")}
    wanted = load_qwen(info, names, config, FP32, kind="qwen2_5_vl", template=QWEN_IMAGE).encode(SHORT).hidden
    found = load_qwen(*read(tmp_path / "qwen.safetensors"), FP32, kind="qwen2_5_vl", template=QWEN_IMAGE)
    assert near(found.encode(SHORT).hidden, wanted)
