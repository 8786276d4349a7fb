"""Very small Z-Image and Qwen-Image models with random weights, and their parts in the layouts of published files.

Names are written down here once more, apart from the tables of `modules.families.layouts`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel, ZImageTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3Config, Qwen3Model

from modules.core.checkpoint import Separate
from modules.core.generation import FileRef
from tests import original
from tests.tiny_dits import _ready, flow_euler, tiny_vae

TOKENS = 151_936  # of Qwen's vocabulary as the models have it
WIDTH = 16  # of a text token
HEADS, HEAD = 2, 16
LATENT = 16
_LANGUAGE: Mapping[str, Any] = {
    "vocab_size": TOKENS, "hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "max_position_embeddings": 2048,
}  # fmt: skip


def tiny_z_image() -> ZImageTransformer2DModel:
    return _ready(
        ZImageTransformer2DModel(
            in_channels=LATENT, dim=HEADS * HEAD, n_layers=2, n_refiner_layers=1, n_heads=HEADS, n_kv_heads=HEADS,
            cap_feat_dim=WIDTH, axes_dims=[8, 4, 4], axes_lens=[1536, 512, 512],
        )
    )  # fmt: skip


def tiny_qwen_image() -> QwenImageTransformer2DModel:
    return _ready(
        QwenImageTransformer2DModel(
            in_channels=LATENT * 4, out_channels=LATENT, num_layers=2, attention_head_dim=HEAD,
            num_attention_heads=HEADS, joint_attention_dim=WIDTH, axes_dims_rope=(8, 4, 4),
        )
    )  # fmt: skip


def tiny_qwen3() -> Qwen3Model:
    return _ready(Qwen3Model(Qwen3Config(**_LANGUAGE, head_dim=8, rope_theta=1e6)))


def tiny_qwen_vl() -> Qwen2_5_VLForConditionalGeneration:
    """The whole of Qwen2.5-VL, though its eyes are closed here."""
    sections = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    return _ready(
        Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config={**_LANGUAGE, "rope_parameters": sections}, vision_config=vision)
        )
    )


def tiny_qwen_vae() -> AutoencoderKLQwenImage:
    return _ready(
        AutoencoderKLQwenImage(
            base_dim=4, z_dim=LATENT, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True]
        )
    )


@dataclass(frozen=True, kw_only=True)
class TinyQwen:
    """One model's networks, by diffusers' names of components."""

    family: str
    parts: Mapping[str, Any]

    def write(self, folder: Path) -> tuple[FileRef, Separate[FileRef]]:
        """Transformer, text encoder and VAE as files of their own, as they are published; returns where they are."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for name, convert in _PUBLISHED[self.family].items():
            path = folder / f"{self.family}_{name}.safetensors"
            told = {"text_encoder": {"num_attention_heads": 2, "num_key_value_heads": 1}, "vae": {"norm_num_groups": 4}}
            tensors = {key: value.contiguous().clone() for key, value in convert(self.parts[name].state_dict()).items()}
            save_file(tensors, path, metadata={"format": "pt", "config": json.dumps(told)})
            files[name] = FileRef(name=path.stem, path=str(path))
        return files["transformer"], Separate(text_encoder=files["text_encoder"], vae=files["vae"])

    def write_folder(self, folder: Path) -> Path:
        """As a folder in diffusers' layout, without tokenizer; returns its model_index.json."""
        index: dict[str, Any] = {"_class_name": "ZImagePipeline" if self.family == "z_image" else "QwenImagePipeline"}
        for name, module in self.parts.items():
            module.save_pretrained(folder / name)
            index[name] = ["transformers" if name == "text_encoder" else "diffusers", type(module).__name__]
        scheduler = flow_euler(shift=3.0, shift_terminal=None if self.family == "z_image" else 0.02)
        scheduler.save_pretrained(folder / "scheduler")
        index["scheduler"] = ["diffusers", type(scheduler).__name__]
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder / "model_index.json"


def tiny_model(family: str) -> TinyQwen:
    """family: "z_image" or "qwen_image"."""
    if family == "z_image":
        parts = {"transformer": tiny_z_image(), "text_encoder": tiny_qwen3(), "vae": tiny_vae()}
    else:
        parts = {"transformer": tiny_qwen_image(), "text_encoder": tiny_qwen_vl(), "vae": tiny_qwen_vae()}
    return TinyQwen(family=family, parts=parts)


State = dict[str, Tensor]


def z_image(state: Mapping[str, Tensor]) -> State:
    """Tongyi's layout, with one tensor for query, key and value."""
    renamed = {
        "all_x_embedder.2-1.": "x_embedder.", "all_final_layer.2-1.": "final_layer.",
        ".attention.to_out.0.": ".attention.out.", ".attention.norm_q.": ".attention.q_norm.",
        ".attention.norm_k.": ".attention.k_norm.",
    }  # fmt: skip
    out: State = {}
    for name, value in state.items():
        if ".attention.to_q." in name:
            fused = [state[name.replace(".to_q.", f".to_{letter}.")] for letter in "qkv"]
            out[name.replace(".to_q.", ".qkv.")] = torch.cat(fused)
        elif ".attention.to_k." not in name and ".attention.to_v." not in name:
            found = next((new for new in renamed if new in name), "")
            out[name.replace(found, renamed[found]) if found else name] = value
    return out


def qwen3(state: Mapping[str, Tensor]) -> State:
    """As Qwen publishes it, under `model.`, with the head that is tied to the tokens."""
    return {f"model.{name}": value for name, value in state.items()}


def qwen_vl(state: Mapping[str, Tensor]) -> State:
    """As Qwen publishes it: the language model at `model.`, the picture's part at `visual.`."""
    renamed = {"model.language_model.": "model.", "model.visual.": "visual."}
    out: State = {}
    for name, value in state.items():
        prefix = next((each for each in renamed if name.startswith(each)), "")
        out[renamed.get(prefix, "") + name.removeprefix(prefix)] = value
    return out


def plain(state: Mapping[str, Tensor]) -> State:
    """Under their own names."""
    return dict(state)


def comfy(state: Mapping[str, Tensor]) -> State:
    """Under the prefix that ComfyUI saves denoisers with."""
    return {f"model.diffusion_model.{name}": value for name, value in state.items()}


def wan_vae(state: Mapping[str, Tensor]) -> State:
    """Wan's layout of the same VAE, for the widths and blocks of `tiny_qwen_vae`."""
    out: State = {}
    for name, value in state.items():
        out[_wan(name)] = value
    assert len(out) == len(state)
    return out


_WAN_BLOCK = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}


def _wan(name: str) -> str:
    outside = {"quant_conv": "conv1", "post_quant_conv": "conv2"}
    head = {"conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2"}
    side, *steps = name.split(".")
    if side in outside:
        return ".".join((outside[side], *steps))
    match steps:
        case ["mid_block", "attentions", _, *rest]:
            new = ["middle.1", *rest]
        case ["mid_block", "resnets", number, *rest]:
            new = [f"middle.{2 * int(number)}", *_wan_inside(rest)]
        case ["down_blocks", number, *rest]:  # a flat list: blocks and what halves the sides
            new = [f"downsamples.{number}", *_wan_inside(rest)]
        case ["up_blocks", level, "resnets", number, *rest]:  # two blocks, then what doubles the sides
            new = [f"upsamples.{int(level) * 3 + int(number)}", *_wan_inside(rest)]
        case ["up_blocks", level, "upsamplers", _, *rest]:
            new = [f"upsamples.{int(level) * 3 + 2}", *rest]
        case [first, *rest]:
            new = [head[first], *rest]
        case _:
            raise ValueError(name)
    return ".".join((side, *new))


def _wan_inside(steps: list[str]) -> list[str]:
    if steps[0] == "conv_shortcut":
        return ["shortcut", *steps[1:]]
    return [*_WAN_BLOCK.get(steps[0], steps[0]).split("."), *steps[1:]]


_PUBLISHED: Mapping[str, Mapping[str, Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]]] = {
    "z_image": {"transformer": z_image, "text_encoder": qwen3, "vae": original.vae},
    "qwen_image": {"transformer": comfy, "text_encoder": qwen_vl, "vae": wan_vae},
}
