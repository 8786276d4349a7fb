"""Networks' weights under the names and in the shapes that their authors published them with.

Written down here once more, apart from the tables of `modules.families.layouts`, so that a mistake in those cannot
agree with itself. Each function takes a state dict of the diffusers class.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tests import tiny

State = dict[str, Tensor]


def flux(state: Mapping[str, Tensor]) -> State:
    """Black Forest Labs' layout of Flux; of Chroma too, which has its modulation elsewhere."""
    out: State = {}
    for name, value in state.items():
        head, _, leaf = name.rpartition(".")
        if (renamed := _FLUX_ENDS.get(head)) is not None:
            out[f"{renamed}.{leaf}"] = value
        elif head == "norm_out.linear":  # shift comes before scale here
            out[f"final_layer.adaLN_modulation.1.{leaf}"] = _swapped(value)
        elif name.startswith("distilled_guidance_layer."):
            out[_approximator(name)] = value
    for i in range(_count(state, "transformer_blocks.")):
        _flux_double(out, state, f"transformer_blocks.{i}.", f"double_blocks.{i}.")
    for i in range(_count(state, "single_transformer_blocks.")):
        block, old = f"single_transformer_blocks.{i}.", f"single_blocks.{i}."
        for leaf in ("weight", "bias"):
            parts = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
            out[f"{old}linear1.{leaf}"] = torch.cat([state[f"{block}{part}.{leaf}"] for part in parts])
            out[f"{old}linear2.{leaf}"] = state[f"{block}proj_out.{leaf}"]
            if f"{block}norm.linear.{leaf}" in state:
                out[f"{old}modulation.lin.{leaf}"] = state[f"{block}norm.linear.{leaf}"]
        out[f"{old}norm.query_norm.scale"] = state[f"{block}attn.norm_q.weight"]
        out[f"{old}norm.key_norm.scale"] = state[f"{block}attn.norm_k.weight"]
    return out


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix))


def _approximator(name: str) -> str:
    if ".norms." in name:
        return name.replace("weight", "scale")
    return name.replace("linear_1", "in_layer").replace("linear_2", "out_layer")


def _flux_double(out: State, state: Mapping[str, Tensor], block: str, stem: str) -> None:
    for side, modulation, qkv, norms, proj, mlp in _SIDES:
        old = f"{stem}{side}"
        for leaf in ("weight", "bias"):
            out[f"{old}_attn.qkv.{leaf}"] = torch.cat([state[f"{block}attn.{part}.{leaf}"] for part in qkv])
            out[f"{old}_attn.proj.{leaf}"] = state[f"{block}attn.{proj}.{leaf}"]
            out[f"{old}_mlp.0.{leaf}"] = state[f"{block}{mlp}.net.0.proj.{leaf}"]
            out[f"{old}_mlp.2.{leaf}"] = state[f"{block}{mlp}.net.2.{leaf}"]
            if f"{block}{modulation}.linear.{leaf}" in state:
                out[f"{old}_mod.lin.{leaf}"] = state[f"{block}{modulation}.linear.{leaf}"]
        for norm, theirs in zip(norms, ("query_norm", "key_norm"), strict=True):
            out[f"{old}_attn.norm.{theirs}.scale"] = state[f"{block}attn.{norm}.weight"]


_FLUX_ENDS = {
    "x_embedder": "img_in", "context_embedder": "txt_in", "proj_out": "final_layer.linear",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
}  # fmt: skip
_SIDES = (
    ("img", "norm1", ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), "to_out.0", "ff"),
    (
        "txt", "norm1_context", ("add_q_proj", "add_k_proj", "add_v_proj"), ("norm_added_q", "norm_added_k"),
        "to_add_out", "ff_context",
    ),
)  # fmt: skip


def sd3(state: Mapping[str, Tensor]) -> State:
    """Stability AI's layout of Stable Diffusion 3 and 3.5."""
    out: State = {"pos_embed": state["pos_embed.pos_embed"]}
    last = _count(state, "transformer_blocks.") - 1
    for name, value in state.items():
        head, _, leaf = name.rpartition(".")
        if (renamed := _SD3_ENDS.get(head)) is not None:
            out[f"{renamed}.{leaf}"] = value
        elif head == "norm_out.linear":
            out[f"final_layer.adaLN_modulation.1.{leaf}"] = _swapped(value)
    for i in range(last + 1):
        block, old = f"transformer_blocks.{i}.", f"joint_blocks.{i}."
        for leaf in ("weight", "bias"):
            context = state[f"{block}norm1_context.linear.{leaf}"]
            out[f"{old}context_block.adaLN_modulation.1.{leaf}"] = _swapped(context) if i == last else context
            out[f"{old}x_block.adaLN_modulation.1.{leaf}"] = state[f"{block}norm1.linear.{leaf}"]
        for new, theirs in _SD3_STREAMS:
            _sd3_stream(out, state, f"{block}{new}", f"{old}{theirs}")
        for side, mlp in (("x_block", "ff"), ("context_block", "ff_context")):
            for leaf in ("weight", "bias"):
                for theirs, ours in (("fc1", "net.0.proj"), ("fc2", "net.2")):
                    if f"{block}{mlp}.{ours}.{leaf}" in state:
                        out[f"{old}{side}.mlp.{theirs}.{leaf}"] = state[f"{block}{mlp}.{ours}.{leaf}"]
    return out


_SD3_STREAMS = (("attn.", "x_block.attn"), ("attn.", "context_block.attn"), ("attn2.", "x_block.attn2"))


def _sd3_stream(out: State, state: Mapping[str, Tensor], new: str, old: str) -> None:
    """One attention of one of the two streams. new, old: where it is."""
    added = "context_block" in old
    qkv = ("add_q_proj", "add_k_proj", "add_v_proj") if added else ("to_q", "to_k", "to_v")
    norm, proj = ("norm_added", "to_add_out") if added else ("norm", "to_out.0")
    if f"{new}{qkv[0]}.weight" not in state:
        return
    for leaf in ("weight", "bias"):
        out[f"{old}.qkv.{leaf}"] = torch.cat([state[f"{new}{part}.{leaf}"] for part in qkv])
        if f"{new}{proj}.{leaf}" in state:
            out[f"{old}.proj.{leaf}"] = state[f"{new}{proj}.{leaf}"]
    for letter in "qk":
        if f"{new}{norm}_{letter}.weight" in state:
            out[f"{old}.ln_{letter}.weight"] = state[f"{new}{norm}_{letter}.weight"]


_SD3_ENDS = {
    "pos_embed.proj": "x_embedder.proj", "context_embedder": "context_embedder", "proj_out": "final_layer.linear",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
}  # fmt: skip


def vae(state: Mapping[str, Tensor]) -> State:
    """CompVis's layout of a KL autoencoder of four resolutions with one block each (`tests.tiny_dits.tiny_vae`)."""
    names = zip(tiny.shapes("vae", "diffusers"), tiny.shapes("vae", "original"), strict=True)
    out = {}
    for (new, _), (old, _) in names:
        value = state.get(new.removeprefix("vae."))
        if value is not None:
            square = ".attn_1." in old and value.dim() == 2  # a 1 x 1 convolution there
            out[old.removeprefix("first_stage_model.")] = value[:, :, None, None] if square else value
    assert len(out) == len(state)
    return out


def _swapped(value: Tensor) -> Tensor:
    """The two halves of the first dimension, the other way round."""
    first, second = value.chunk(2)
    return torch.cat([second, first])
