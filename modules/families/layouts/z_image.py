"""Z-Image (Tongyi 2025): one stream of picture and text, after refiners of each.

`config` gives the keyword arguments of diffusers' `ZImageTransformer2DModel`, `original` the names that the published
single files use. The architecture grew out of Lumina 2, which differs in how it embeds time and text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.families.layouts.shapes import Config, Shapes, Table, heads, number, wholes

PATCH = "2-1"  # the one patch size of the published models: 2 x 2 pixels, 1 frame
_AXES, _LENGTHS = [32, 48, 48], [1536, 512, 512]  # rotary embedding: time and text, rows, columns


def config(shapes: Shapes, told: Mapping[str, Any]) -> Config:
    """Keyword arguments of the class. shapes: under either layout's names."""
    original = shapes.has("x_embedder.weight")
    embedder = "x_embedder" if original else f"all_x_embedder.{PATCH}"
    width = shapes(f"{embedder}.bias")[0]
    norm = "layers.0.attention.q_norm.weight" if original else "layers.0.attention.norm_q.weight"
    size = shapes(norm)[0]
    if original:
        pairs = (shapes.across("layers.0.attention.qkv.weight", width) - width) // (2 * size)
    else:
        pairs = shapes.across("layers.0.attention.to_k.weight", width) // size
    return {
        "all_patch_size": [2],
        "all_f_patch_size": [1],
        "in_channels": shapes(f"{embedder}.weight")[1] // 4,
        "dim": width,
        "n_layers": shapes.count(r"layers\.(\d+)\."),
        "n_refiner_layers": shapes.count(r"noise_refiner\.(\d+)\."),
        "n_heads": heads(width, size, "Transformer"),
        "n_kv_heads": pairs,
        "norm_eps": number(told, "norm_eps", 1e-5),
        "qk_norm": True,
        "cap_feat_dim": shapes("cap_embedder.0.weight")[0],
        "rope_theta": number(told, "rope_theta", 256.0),
        "t_scale": number(told, "t_scale", 1000.0),
        "axes_dims": wholes(told, "axes_dims", _AXES if size == 128 else [size // 2, size // 4, size // 4]),
        "axes_lens": wholes(told, "axes_lens", _LENGTHS),
    }


def original(config: Config) -> Table:
    """diffusers name -> name in the original layout, of every parameter of a network with this configuration."""
    table = Table({"x_pad_token": "x_pad_token", "cap_pad_token": "cap_pad_token"})
    table.pair(f"all_x_embedder.{PATCH}", "x_embedder")
    table.pair(f"all_final_layer.{PATCH}.linear", "final_layer.linear")
    table.pair(f"all_final_layer.{PATCH}.adaLN_modulation.1", "final_layer.adaLN_modulation.1")
    for name in ("t_embedder.mlp.0", "t_embedder.mlp.2", "cap_embedder.1"):
        table.pair(name, name)
    table.weights("cap_embedder.0", "cap_embedder.0")
    stacks = (("noise_refiner", "n_refiner_layers"), ("context_refiner", "n_refiner_layers"), ("layers", "n_layers"))
    for stack, count in stacks:
        for i in range(config[count]):
            _block(table, f"{stack}.{i}", config, modulated=stack != "context_refiner")
    return table


def _block(table: Table, name: str, config: Config, *, modulated: bool) -> None:
    size = config["dim"] // config["n_heads"]
    rows = {"q": config["dim"], "k": config["n_kv_heads"] * size, "v": config["n_kv_heads"] * size}
    attention = f"{name}.attention"
    table.split(f"{attention}.qkv", [(f"{attention}.to_{letter}", rows[letter]) for letter in "qkv"], bias=False)
    table.weights(f"{attention}.to_out.0", f"{attention}.out")
    table.weights(f"{attention}.norm_q", f"{attention}.q_norm")
    table.weights(f"{attention}.norm_k", f"{attention}.k_norm")
    for inner in ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "attention_norm1", "attention_norm2",
                  "ffn_norm1", "ffn_norm2"):  # fmt: skip
        table.weights(f"{name}.{inner}", f"{name}.{inner}")
    if modulated:
        table.pair(f"{name}.adaLN_modulation.0", f"{name}.adaLN_modulation.0")
