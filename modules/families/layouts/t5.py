"""T5 encoders (Raffel et al. 2020; v1.1's XXL in SD3, Flux and Chroma) and their relatives.

Files keep them under transformers' names or, as GGUF, under llama.cpp's. Tables go to those of `T5EncoderModel`;
`config` gives the keyword arguments of `T5Config`. UMT5 and Pile-T5 have a position bias in every layer. mT5 and ByT5
are T5 but for their vocabularies, and so no T5 to a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.core.checkpoint import Header, Source
from modules.families.layouts.network import Inner, Network, absent, through
from modules.families.layouts.shapes import Config, Shapes, whole

_FIRST = "encoder.block.0.layer.0.SelfAttention.q.weight"
_GGUF_FIRST = "enc.blk.0.attn_q.weight"
# Vocabularies of many languages (mT5's 250,112; UMT5's 256,384), and of bytes (ByT5's 384); T5's has 32,128 pieces
_MANY_TOKENS, _BYTES = 100_000, 512
_GGUF = {
    "SelfAttention.q": "attn_q", "SelfAttention.k": "attn_k", "SelfAttention.v": "attn_v", "SelfAttention.o": "attn_o",
    "SelfAttention.relative_attention_bias": "attn_rel_b",
    "DenseReluDense.wi_0": "ffn_gate", "DenseReluDense.wi_1": "ffn_up", "DenseReluDense.wi": "ffn_up",
    "DenseReluDense.wo": "ffn_down",
}  # fmt: skip


def t5(header: Header, inner: Inner, told: Mapping[str, Any], hint: str = "") -> Network | None:
    """The T5 encoder among `inner`, None where there is none. Raises CorruptCheckpoint."""
    if _GGUF_FIRST in inner:
        gguf = True
    elif _FIRST in inner:
        gguf = False
    else:
        return None
    block = "enc.blk" if gguf else "encoder.block"
    gated = ("enc.blk.0.ffn_gate" if gguf else "encoder.block.0.layer.1.DenseReluDense.wi_0") + ".weight" in inner
    second = f"{block}.1." + ("attn_rel_b" if gguf else "layer.0.SelfAttention.relative_attention_bias") + ".weight"
    every = second in inner
    embedding = "token_embd.weight" if gguf else "shared.weight"
    if not gguf and embedding not in inner and "encoder.embed_tokens.weight" in inner:
        embedding = "encoder.embed_tokens.weight"
    shapes = Shapes(header, inner)
    vocabulary, width = shapes(embedding)
    first = f"{block}.0." + ("attn_rel_b" if gguf else "layer.0.SelfAttention.relative_attention_bias") + ".weight"
    inside = f"{block}.0." + ("ffn_down" if gguf else "layer.1.DenseReluDense.wo") + ".weight"
    query = _GGUF_FIRST if gguf else _FIRST
    buckets, heads = shapes(first)
    config: Config = {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": shapes.across(query, width) // heads,
        "d_ff": shapes.across(inside, width),
        "num_layers": shapes.count(rf"{block}\.(\d+)\."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": whole(told, "relative_attention_max_distance", 128),
        "feed_forward_proj": "gated-gelu" if gated else "relu",
    }
    table = _table(config, embedding, gguf=gguf, every=every)
    if every:
        kind = "umt5" if vocabulary > _MANY_TOKENS else "pile_t5"
    else:
        kind = "byt5" if vocabulary <= _BYTES else "mt5" if vocabulary > _MANY_TOKENS else "t5"
    return Network(kind=kind, config=config, names=through(table, inner), missing=absent(table, inner))


def _table(config: Config, embedding: str, *, gguf: bool, every: bool) -> dict[str, str | Source]:
    table: dict[str, str | Source] = {"shared.weight": embedding, "encoder.embed_tokens.weight": embedding}
    table["encoder.final_layer_norm.weight"] = "enc.output_norm.weight" if gguf else "encoder.final_layer_norm.weight"
    gated = config["feed_forward_proj"] == "gated-gelu"
    for i in range(config["num_layers"]):
        inside = [f"SelfAttention.{letter}" for letter in "qkvo"]
        inside += ["SelfAttention.relative_attention_bias"] * (every or i == 0)
        names = [f"layer.0.{name}" for name in inside] + ["layer.0.layer_norm", "layer.1.layer_norm"]
        names += [f"layer.1.DenseReluDense.{name}" for name in (("wi_0", "wi_1", "wo") if gated else ("wi", "wo"))]
        for name in names:
            new = f"encoder.block.{i}.{name}.weight"
            table[new] = f"enc.blk.{i}.{_gguf_name(name)}.weight" if gguf else new
    return table


def _gguf_name(name: str) -> str:
    layer, inner = name.removeprefix("layer.").split(".", 1)
    return {"0": "attn_norm", "1": "ffn_norm"}[layer] if inner == "layer_norm" else _GGUF[inner]
