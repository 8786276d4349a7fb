"""Text encoder files by their kinds, in every layout they come in."""

from __future__ import annotations

from typing import Any

import pytest

from modules.core.family import Family, identify
from modules.core.plugin import Registry
from modules.families.layouts.parts import text_parts
from modules.families.text_encoder import identify_text_encoder
from tests.families.published import (
    QWEN3_4B,
    QWEN25_VL_7B,
    Shapes,
    build,
    clip_shapes,
    header_of,
    open_clip,
    t5_xxl,
    under,
)
from tests.families.record_headers import shapes_of

SMALL: dict[str, Any] = {"num_hidden_layers": 2}


def language(name: str, **config: Any) -> Shapes:
    return shapes_of(build(name, "transformers", config))


@pytest.mark.parametrize(
    ("shapes", "kind"),
    [
        (lambda: clip_shapes("clip_l"), "clip_l"),
        (lambda: under("text_encoders.clip_l.transformer.", clip_shapes("clip_l")), "clip_l"),
        (lambda: clip_shapes("clip_g"), "clip_g"),
        (lambda: open_clip("clip_g"), "clip_g"),
        (lambda: under("conditioner.embedders.1.model.", open_clip("clip_g")), "clip_g"),
        (lambda: open_clip("clip_h"), "clip_h"),
        (t5_xxl, "t5"),
        (lambda: under("t5xxl.transformer.", t5_xxl()), "t5"),
        (lambda: under("model.", language("Qwen3Model", **QWEN3_4B)), "qwen3"),
        (lambda: {**under("model.", language("Qwen2Model", **QWEN25_VL_7B)), "visual.blocks.0.norm1.weight": [1280]},
         "qwen2_5_vl"),
        (lambda: under("model.language_model.", language("Qwen2Model", **QWEN25_VL_7B)), "qwen2_5_vl"),
    ],
)  # fmt: skip
def test_an_encoder_that_models_use(shapes: Any, kind: str, families: Registry[Family]) -> None:
    header = header_of(shapes(), "encoder")
    info = identify_text_encoder(header)
    assert (info.supported, info.variant, info.problem) == (True, kind, "")
    assert not text_parts(header).networks["text_encoder"].missing
    listed = identify(header, families)
    assert (listed.family, listed.supported, listed.variant) == ("text_encoder", False, kind)


@pytest.mark.parametrize(
    ("shapes", "kind", "says"),
    [
        (lambda: language("UMT5EncoderModel", num_layers=2, vocab_size=256384), "umt5", "Wan"),
        (lambda: language("UMT5EncoderModel", num_layers=2, vocab_size=32128), "pile_t5", "AuraFlow"),
        (lambda: language("MT5EncoderModel", num_layers=2, d_model=4096, vocab_size=250112), "mt5", "mT5"),
        (lambda: language("T5EncoderModel", num_layers=2, d_model=1472, vocab_size=384), "byt5", "ByT5"),
        (lambda: {**under("model.", language("Qwen2Model", **QWEN25_VL_7B)), "visual.blocks.0.mlp.fc1.weight": [8, 8]},
         "qwen2_vl", "Qwen2-VL"),
        (lambda: {"encoder.layers.0.self_attention.query_key_value.weight": [8, 8]}, "chatglm3", "Kolors"),
        (lambda: {"bert.embeddings.word_embeddings.weight": [8, 8]}, "bert", "HunyuanDiT"),
        (lambda: {"model.layers.0.self_attn.sinks": [8], "model.layers.0.self_attn.q_proj.weight": [8, 8]},
         "gpt_oss", "Lens"),
        (lambda: under("model.", language("Gemma2Model", **SMALL)), "gemma2", "Gemma 2"),
        (lambda: under("model.", language("LlamaModel", vocab_size=128256, num_key_value_heads=8, **SMALL)),
         "llama", "HiDream"),
        (lambda: under("model.", language("MistralModel", vocab_size=131072, **SMALL)), "mistral", "Flux.2"),
        (lambda: under("model.", language("Qwen2Model", **SMALL)), "qwen2", "Qwen2"),
    ],
)  # fmt: skip
def test_an_encoder_that_none_uses_is_named(shapes: Any, kind: str, says: str) -> None:
    info = identify_text_encoder(header_of(shapes(), "encoder"))
    assert (info.supported, info.variant) == (False, kind)
    assert says in info.problem


def test_a_language_model_as_gguf_is_not_taken_for_the_one_that_sees() -> None:
    """Qwen2.5 7B has the tensors of the language part of Qwen2.5-VL 7B, and says in its header which it is."""
    for architecture, kind in (("qwen2", "qwen2"), ("qwen2vl", "qwen2_5_vl"), ("", "qwen2_5_vl")):
        shapes = under("model.", language("Qwen2Model", **QWEN25_VL_7B))
        metadata = {"general.architecture": architecture} if architecture else {}
        assert identify_text_encoder(header_of(shapes, "qwen", metadata)).variant == kind


def test_an_encoder_that_none_uses_says_so_among_checkpoints(families: Registry[Family]) -> None:
    shapes = language("UMT5EncoderModel", num_layers=2, vocab_size=256384)
    problem = identify(header_of(shapes), families).problem
    assert problem.startswith("this is a text encoder: UMT5, as Wan uses, which no model")
    assert "models/text_encoder" not in problem


def test_dimensions_make_the_same_networks() -> None:
    """transformers' class, made with what was read, has the table's parameters."""
    for name, shapes in (
        ("T5EncoderModel", t5_xxl()),
        ("Qwen3Model", under("model.", language("Qwen3Model", **QWEN3_4B))),
        ("Qwen2Model", under("model.", language("Qwen2Model", **QWEN25_VL_7B))),
    ):
        network = text_parts(header_of(shapes)).networks["text_encoder"]
        config = {key: value for key, value in network.config.items() if key != "rope_parameters"}
        wanted = shapes_of(build(name, "transformers", config))
        header = header_of(shapes)
        found = {key: list(header.tensors[str(source)].shape) for key, source in network.names.items()}
        assert found == wanted


def test_what_shapes_do_not_tell_is_as_published() -> None:
    qwen3 = text_parts(header_of(under("model.", language("Qwen3Model", **QWEN3_4B)))).networks["text_encoder"].config
    assert qwen3["rope_parameters"] == {"rope_type": "default", "rope_theta": 1e6}
    assert (qwen3["head_dim"], qwen3["num_attention_heads"], qwen3["num_key_value_heads"]) == (128, 32, 8)
    vl = language("Qwen2Model", **QWEN25_VL_7B)
    config = text_parts(header_of(under("model.language_model.", vl))).networks["text_encoder"].config
    assert config["rope_parameters"]["mrope_section"] == [16, 24, 24]


def test_t5_and_qwen_in_llama_cpp_names() -> None:
    """As GGUF files have them; the tables go to transformers' names."""
    t5: Shapes = {"token_embd.weight": [32128, 64], "enc.output_norm.weight": [64]}
    qwen: Shapes = {"token_embd.weight": [151936, 64], "output_norm.weight": [64], "output.weight": [151936, 64]}
    for i in range(2):
        t5.update({f"enc.blk.{i}.attn_{letter}.weight": [64, 64] for letter in "qkvo"})
        t5.update({f"enc.blk.{i}.{name}.weight": [128, 64] for name in ("ffn_gate", "ffn_up")})
        t5[f"enc.blk.{i}.ffn_down.weight"] = [64, 128]
        t5.update({f"enc.blk.{i}.{name}.weight": [64] for name in ("attn_norm", "ffn_norm")})
        qwen.update({f"blk.{i}.{name}.weight": [64, 64] for name in ("attn_q", "attn_output")})
        qwen.update({f"blk.{i}.{name}.weight": [32, 64] for name in ("attn_k", "attn_v")})
        qwen.update({f"blk.{i}.{name}.weight": [16] for name in ("attn_q_norm", "attn_k_norm")})
        qwen.update({f"blk.{i}.{name}.weight": [128, 64] for name in ("ffn_gate", "ffn_up")})
        qwen[f"blk.{i}.ffn_down.weight"] = [64, 128]
        qwen.update({f"blk.{i}.{name}.weight": [64] for name in ("attn_norm", "ffn_norm")})
    t5["enc.blk.0.attn_rel_b.weight"] = [32, 4]
    config = {
        "d_model": 64,
        "d_ff": 128,
        "d_kv": 16,
        "num_heads": 4,
        "num_layers": 2,
        "feed_forward_proj": "gated-gelu",
    }
    found = text_parts(header_of(t5)).networks["text_encoder"]
    assert (found.kind, found.missing) == ("t5", ())
    assert set(found.names) == set(shapes_of(build("T5EncoderModel", "transformers", config)))
    qwen_found = text_parts(header_of(qwen)).networks["text_encoder"]
    assert (qwen_found.kind, qwen_found.missing) == ("qwen3", ())
    wanted = language("Qwen3Model", hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                      num_key_value_heads=2, head_dim=16)  # fmt: skip
    assert set(qwen_found.names) == set(wanted)


def test_a_damaged_encoder_says_what_is_missing() -> None:
    rest = {name: shape for name, shape in t5_xxl().items() if "block.5.layer.1.DenseReluDense.wo" not in name}
    problem = identify_text_encoder(header_of(rest, "t5xxl")).problem
    assert problem.startswith(
        "t5xxl.safetensors is incomplete: encoder.block.5.layer.1.DenseReluDense.wo.weight of the"
    )
    assert "is missing" in problem
