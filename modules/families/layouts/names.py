"""Tensor names of Stable Diffusion files in the original layout, translated to diffusers' and transformers' names.

The original (CompVis) layout numbers the UNet's blocks in one row (`input_blocks.4.1`), diffusers by resolution and
kind (`down_blocks.1.attentions.0`). The rules follow from how both count: a resolution has `layers` residual blocks
on the way down and `layers + 1` on the way up, and a change of resolution closes each row but the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
_VAE_ATTENTION = {
    "norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0",
    "query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0",
}  # fmt: skip
_FLAT_TOKEN = re.compile(
    r"diffusion_model|input_blocks|output_blocks|middle_block|time_embed|label_emb|transformer_blocks|skip_connection"
    r"|emb_layers|out_layers|in_layers|proj_in|proj_out|to_out|to_[qkv]|attn[12]|norm[123]?|ff|net|proj|op|conv|out"
    r"|weight|bias|\d+"
)


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """diffusers name -> given name, for original UNet names without their `model.diffusion_model.` prefix.

    A name that follows no rule is kept as it is, so that it shows up as unknown.
    """
    names = tuple(names)
    layers = _layers_per_block(names)
    return {_unet_name(name, layers): name for name in names}


def _layers_per_block(names: Iterable[str]) -> int:
    blocks: set[int] = set()
    changes: list[int] = []
    for name in names:
        if found := re.match(r"input_blocks\.(\d+)\.0\.(op\.)?", name):
            (changes.append if found[2] else blocks.add)(int(found[1]))
    if changes:
        return max(min(changes) - 1, 1)
    return max(len(blocks) - 1, 1)


def _unet_name(name: str, layers: int) -> str:
    stem, _, leaf = name.rpartition(".")
    if stem in _ENDS:
        return f"{_ENDS[stem]}.{leaf}"
    if found := re.fullmatch(r"middle_block\.([012])\.(.+)", name):
        return f"mid_block.{_MIDDLE[found[1]]}.{_inside(found[2])}"
    if found := re.fullmatch(r"(input|output)_blocks\.(\d+)\.([012])\.(.+)", name):
        down = found[1] == "input"
        block, layer = divmod(int(found[2]) - down, layers + 1)
        side = f"{'down' if down else 'up'}_blocks.{block}"
        if found[4].startswith(("op.", "conv.")):
            return f"{side}.{'downsamplers' if down else 'upsamplers'}.0.conv.{leaf}"
        return f"{side}.{'resnets' if found[3] == '0' else 'attentions'}.{layer}.{_inside(found[4])}"
    return name


def _inside(rest: str) -> str:
    stem, _, leaf = rest.rpartition(".")
    return f"{_RESNET[stem]}.{leaf}" if stem in _RESNET else rest


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """diffusers name -> given name, for VAE names without prefix in either layout, older diffusers names included."""
    names = tuple(names)
    ups = [int(found[1]) for name in names if (found := re.match(r"decoder\.up\.(\d+)\.", name))]
    return {_vae_name(name, max(ups, default=0)): name for name in names}


def _vae_name(name: str, top: int) -> str:
    name = re.sub(r"^encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets.", name)
    name = re.sub(r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0.", name)
    if found := re.match(r"decoder\.up\.(\d+)\.(block|upsample)\.", name):
        kind = "resnets" if found[2] == "block" else "upsamplers.0"
        name = f"decoder.up_blocks.{top - int(found[1])}.{kind}.{name[found.end() :]}"
    name = name.replace(".mid.block_1.", ".mid_block.resnets.0.").replace(".mid.block_2.", ".mid_block.resnets.1.")
    name = name.replace(".mid.attn_1.", ".mid_block.attentions.0.")
    if found := re.fullmatch(r"(.+\.attentions\.0)\.(\w+)\.(weight|bias)", name):
        name = f"{found[1]}.{_VAE_ATTENTION.get(found[2], found[2])}.{found[3]}"
    return name.replace(".nin_shortcut.", ".conv_shortcut.").replace(".norm_out.", ".conv_norm_out.")


def text_names(names: Iterable[str]) -> dict[str, str]:
    """transformers name -> given name, for a CLIP text model's names, with or without their `text_model.` level."""
    return {name.removeprefix("text_model."): name for name in names}


def ema_names(names: Iterable[str]) -> dict[str, str]:
    """Dotted original UNet name -> given name, for EMA weights.

    Training frameworks store averages under names without dots (`model_ema.diffusion_modelinput_blocks41...`). The
    second number after `input_blocks` and `output_blocks` has one digit, which makes the way back unambiguous.
    """
    dotted = {}
    for name in names:
        tokens = _FLAT_TOKEN.findall(name.removeprefix("model_ema."))
        if tokens[:1] != ["diffusion_model"]:
            continue
        parts: list[str] = []
        for token in tokens[1:]:
            if token.isdigit() and parts and parts[-1] in ("input_blocks", "output_blocks"):
                parts += [token[:-1], token[-1]]
            elif token.isdigit() and parts and parts[-1] == "label_emb":
                parts += list(token)
            else:
                parts.append(token)
        dotted[".".join(parts)] = name
    return dotted


def strip(names: Iterable[str], prefix: str) -> Mapping[str, str]:
    """Name without `prefix` -> given name, for those that have it."""
    return {name[len(prefix) :]: name for name in names if name.startswith(prefix)}
