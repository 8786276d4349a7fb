"""CLIP text encoders: OpenAI's ViT-L, and OpenCLIP's ViT-H (Stable Diffusion 2) and ViT-bigG (SDXL, SD3).

Files keep them under transformers' names, with or without a `text_model.` level, or under OpenCLIP's. Tables go to
transformers' names without that level, and `text_projection.weight` where the file has it. `config` gives the keyword
arguments of `CLIPTextConfig`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modules.core.checkpoint import Header, Source
from modules.core.errors import CorruptCheckpoint
from modules.families.layouts.network import Inner, Network, absent, through
from modules.families.layouts.shapes import Config, Shapes, Table, divides, whole
from modules.families.layouts.unet import pairs

TOKENS = 49408
_KINDS = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
_HEAD = 64  # channels per attention head, of all three
_EMBEDDING, _OPEN_EMBEDDING = "embeddings.token_embedding.weight", "token_embedding.weight"
_PROJECTION = "text_projection.weight"
_OPEN_LAYER = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}  # fmt: skip


def clip(header: Header, inner: Inner, told: Mapping[str, Any], hint: str = "") -> Network | None:
    """The CLIP text encoder among `inner`, None where there is none. hint: its kind where the width does not tell it.

    Raises CorruptCheckpoint.
    """
    if _OPEN_EMBEDDING in inner and "positional_embedding" in inner:
        return _open(header, inner, told, hint)
    plain = {_plain(name): full for name, full in inner.items() if not name.endswith("position_ids")}
    if _EMBEDDING not in plain:
        return None
    shapes = Shapes(header, plain)
    config = _config(shapes, told, hint)
    table = {name: name for name in expected(config)}
    if shapes.has(_PROJECTION):
        table[_PROJECTION] = _PROJECTION
    elif "text_projection" in plain and len(shapes("text_projection")) == 2:  # as OpenCLIP keeps it
        return _finished(
            config, {**table, _PROJECTION: Source("text_projection", change="transpose")}, plain, told, hint
        )
    return _finished(config, table, plain, told, hint)


def _plain(name: str) -> str:
    name = name.removeprefix("transformer.")
    return name.removeprefix("text_model.")


def _finished(
    config: Config, table: Mapping[str, str | Source], inner: Inner, told: Mapping[str, Any], hint: str
) -> Network:
    kind = (
        told.get("kind") if told.get("kind") in _KINDS.values() else _KINDS.get(config["hidden_size"], hint or "clip_l")
    )
    return Network(kind=str(kind), config=config, names=through(table, inner), missing=absent(table, inner))


def _config(shapes: Shapes, told: Mapping[str, Any], hint: str) -> Config:
    vocabulary, width = shapes(_EMBEDDING)
    projected = shapes(_PROJECTION)[0] if shapes.has(_PROJECTION) else width
    return _values(
        told,
        hint,
        vocabulary=vocabulary,
        width=width,
        inside=shapes("encoder.layers.0.mlp.fc1.bias")[0],
        layers=shapes.count(r"encoder\.layers\.(\d+)\."),
        places=shapes("embeddings.position_embedding.weight")[0],
        projected=projected,
    )


def _values(
    told: Mapping[str, Any],
    hint: str,
    *,
    vocabulary: int,
    width: int,
    inside: int,
    layers: int,
    places: int,
    projected: int,
) -> Config:
    if vocabulary < TOKENS:
        raise CorruptCheckpoint(f"The text encoder knows {vocabulary:,} tokens where CLIP's tokenizer has {TOKENS:,}.")
    heads = whole(told, "num_attention_heads", 12 if width % _HEAD else width // _HEAD)
    divides("Text encoder width", [width], heads, "attention heads")
    usual = "gelu" if _KINDS.get(width, hint) in ("clip_g", "clip_h") else "quick_gelu"
    activation = told.get("hidden_act", usual)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "projection_dim": projected,
        "intermediate_size": inside,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": places,
        "hidden_act": activation if activation in ("quick_gelu", "gelu") else usual,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }


def expected(config: Config) -> Iterator[str]:
    """Every parameter's name, without the projection, which not every encoder has."""
    yield from (_EMBEDDING, "embeddings.position_embedding.weight")
    yield from pairs("final_layer_norm")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{i}."
        yield from pairs(*(f"{layer}self_attn.{name}_proj" for name in ("q", "k", "v", "out")))
        yield from pairs(f"{layer}layer_norm1", f"{layer}layer_norm2", f"{layer}mlp.fc1", f"{layer}mlp.fc2")


def _open(header: Header, inner: Inner, told: Mapping[str, Any], hint: str) -> Network:
    shapes = Shapes(header, inner)
    vocabulary, width = shapes(_OPEN_EMBEDDING)
    has_projection = shapes.has("text_projection")
    config = _values(
        told,
        hint,
        vocabulary=vocabulary,
        width=width,
        inside=shapes("transformer.resblocks.0.mlp.c_fc.bias")[0],
        layers=shapes.count(r"transformer\.resblocks\.(\d+)\."),
        places=shapes("positional_embedding")[0],
        projected=shapes("text_projection")[1] if has_projection else width,
    )
    return _finished(config, open_table(config, projection=has_projection), inner, told, hint)


def open_table(config: Config, *, projection: bool) -> Table:
    table = Table({_EMBEDDING: _OPEN_EMBEDDING, "embeddings.position_embedding.weight": "positional_embedding"})
    table.pair("final_layer_norm", "ln_final")
    if projection:
        table[_PROJECTION] = Source("text_projection", change="transpose")
    width = config["hidden_size"]
    for i in range(config["num_hidden_layers"]):
        new, old = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
        for j, letter in enumerate("qkv"):
            rows = (j * width, (j + 1) * width)
            for leaf in ("weight", "bias"):
                source = Source(f"{old}.attn.in_proj_{leaf}", rows=rows)
                table[f"{new}.self_attn.{letter}_proj.{leaf}"] = source
        for theirs, ours in _OPEN_LAYER.items():
            table.pair(f"{new}.{ours}", f"{old}.{theirs}")
    return table
