"""Language models as text encoders: Qwen2.5-VL (Qwen-Image), Qwen3 (Z-Image), Gemma 2 (Lumina 2, Sana), Llama, Mistral.

Files keep them under transformers' names, with or without levels above, or, as GGUF, under llama.cpp's. Tables go to
the names of the language model alone ("embed_tokens.weight", "layers.0.self_attn.q_proj.weight", "norm.weight"), as
`Qwen3Model` and `Qwen2_5_VLTextModel` have them: what sees pictures, and the head, is left out. `config` gives
keyword arguments of their configuration classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.core.checkpoint import Header, Source
from modules.families.layouts.network import Inner, Network, absent, through
from modules.families.layouts.shapes import Config, Shapes, number, whole

# The longest first: older files have model.embed_tokens beside visual.*, newer ones a level more for both
_LEVELS = ("model.language_model.model.", "language_model.model.", "model.language_model.", "language_model.", "model.")
_GGUF_LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
_GGUF_ENDS = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
# Rotary base of each kind, from the published configurations
_THETA = {
    "qwen2_5_vl": 1e6, "qwen2_vl": 1e6, "qwen2": 1e6, "qwen3": 1e6, "qwen3_vl": 5e6, "llama": 5e5, "mistral": 1e9,
    "gemma2": 1e4,
}  # fmt: skip
_LLAMA3_TOKENS = (128_256, 128_320)  # the second with pictures, as HunyuanVideo uses it
_HEAD = 128  # channels per attention head where no norm tells


def language(header: Header, inner: Inner, told: Mapping[str, Any], hint: str = "") -> Network | None:
    """The language model among `inner`, None where there is none. Raises CorruptCheckpoint."""
    gguf = "blk.0.attn_q.weight" in inner and "token_embd.weight" in inner
    if gguf:
        names = {name: inner[_gguf(name)] for name in _possible(inner) if _gguf(name) in inner}
    else:
        level = next((each for each in (*_LEVELS, "") if f"{each}embed_tokens.weight" in inner), None)
        if level is None or f"{level}layers.0.self_attn.q_proj.weight" not in inner:
            return None
        names = {name[len(level) :]: full for name, full in inner.items() if name.startswith(level)}
    kind = _kind(header, inner, names)
    nested = told.get("text_config")
    told = {**told, **nested} if isinstance(nested, Mapping) else told
    told = {name: value for name, value in told.items() if value is not None}  # as good as not there
    shapes = Shapes(header, names)
    config = _config(shapes, told, kind)
    table = _table(names, config)
    return Network(kind=kind, config=config, names=through(table, names), missing=absent(table, names))


def _possible(inner: Inner) -> list[str]:
    layers = {int(name.split(".")[1]) for name in inner if name.startswith("blk.")}
    leaves = [f"{name}.{leaf}" for name in _GGUF_LAYER for leaf in ("weight", "bias")]
    return [*_GGUF_ENDS, *(f"layers.{i}.{leaf}" for i in sorted(layers) for leaf in leaves)]


def _gguf(name: str) -> str:
    if name in _GGUF_ENDS:
        return _GGUF_ENDS[name]
    _, layer, rest = name.split(".", 2)
    stem, _, leaf = rest.rpartition(".")
    return f"blk.{layer}.{_GGUF_LAYER[stem]}.{leaf}"


def _kind(header: Header, inner: Inner, names: Inner) -> str:
    sees = any(name.startswith(("visual.", "model.visual.", "vision_tower.")) for name in inner)
    architecture = header.metadata.get("general.architecture", "")
    first = "layers.0."
    if f"{first}pre_feedforward_layernorm.weight" in names:
        return "gemma3" if f"{first}self_attn.q_norm.weight" in names else "gemma2"
    if f"{first}self_attn.q_norm.weight" in names:
        deep = any("deepstack" in name for name in inner)
        return "qwen3_vl" if deep or architecture == "qwen3vl" else "qwen3"
    if f"{first}self_attn.q_proj.bias" in names:
        if any(name.endswith("visual.blocks.0.mlp.fc1.weight") for name in inner):
            return "qwen2_vl"
        width = header.shape(names.get("norm.weight", ""))
        # Qwen2.5-VL 7B's language part stands alone, too (the pictures' part is a file of its own in GGUF). Qwen2.5 7B
        # has the same tensors, and is told from it where the file names its architecture
        alone = width == (3584,) and architecture in ("", "qwen2vl")
        return "qwen2_5_vl" if sees or architecture == "qwen2vl" or alone else "qwen2"
    rows = (header.shape(names["embed_tokens.weight"]) or (0,))[0]
    if rows in _LLAMA3_TOKENS:
        return "llama"
    return "mistral" if architecture == "mistral" or rows in (32768, 131072) else "language_model"


def _config(shapes: Shapes, told: Mapping[str, Any], kind: str) -> Config:
    vocabulary, width = shapes("embed_tokens.weight")
    rows = shapes.across("layers.0.self_attn.q_proj.weight", width)
    norm = "layers.0.self_attn.q_norm.weight"
    if shapes.has(norm):
        size = shapes(norm)[0]
    elif isinstance(told.get("num_attention_heads"), int) and "head_dim" not in told:
        size = rows // whole(told, "num_attention_heads", 1)
    else:
        size = whole(told, "head_dim", 256 if kind == "gemma2" else _HEAD)
    rope: Config = {"rope_type": "default", "rope_theta": _theta(told, kind)}
    if kind in ("qwen2_5_vl", "qwen3_vl"):
        rope["mrope_section"] = _sections(told, size)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes.across("layers.0.mlp.gate_proj.weight", width),
        "num_hidden_layers": shapes.count(r"layers\.(\d+)\."),
        "num_attention_heads": rows // size,
        "num_key_value_heads": shapes.across("layers.0.self_attn.k_proj.weight", width) // size,
        "head_dim": size,
        "rms_norm_eps": number(told, "rms_norm_eps", 1e-6),
        "max_position_embeddings": whole(told, "max_position_embeddings", 32768),
        "rope_parameters": rope,
    }


def _theta(told: Mapping[str, Any], kind: str) -> float:
    rope = told.get("rope_parameters")
    return number(rope if isinstance(rope, Mapping) else told, "rope_theta", _THETA.get(kind, 1e4))


def _sections(told: Mapping[str, Any], size: int) -> list[int]:
    """How the rotary pairs are shared out between time, rows and columns: Qwen2.5-VL's 16, 24, 24 of 64 pairs."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = told.get(name)
        if isinstance(rope, Mapping) and isinstance(rope.get("mrope_section"), list):
            return list(rope["mrope_section"])
    pairs = size // 2
    return [pairs - 2 * (pairs * 3 // 8), pairs * 3 // 8, pairs * 3 // 8]


def _table(names: Inner, config: Config) -> dict[str, str | Source]:
    """What must be there, by the first layer: what one layer has, all have."""
    first = [name.removeprefix("layers.0.") for name in names if name.startswith("layers.0.")]
    always = [f"self_attn.{letter}_proj.weight" for letter in "qkvo"]
    always += [f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")]
    always += ["input_layernorm.weight", "post_attention_layernorm.weight"]
    inside = [name for name in dict.fromkeys((*always, *first)) if not name.endswith("rotary_emb.inv_freq")]
    layers = [f"layers.{i}.{name}" for i in range(config["num_hidden_layers"]) for name in inside]
    return {name: name for name in ("embed_tokens.weight", *layers, "norm.weight")}
