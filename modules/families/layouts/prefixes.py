"""A file's tensors sorted by component: denoiser, text encoders and VAE, each without the prefix it is kept under."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from modules.core.checkpoint import Header
from modules.families.layouts import names as ldm
from modules.families.layouts.kinds import kind_of
from modules.families.layouts.network import Inner
from modules.families.layouts.once import once

_DENOISERS = (
    "model.diffusion_model.", "diffusion_model.", "unet.", "transformer.", "net.", "model.", "dit.", "pipe.dit.",
    "module.", "_orig_mod.", "model.model.",
)  # fmt: skip
_VAES = ("first_stage_model.", "vae.")
# Prefix -> what is kept there, "" where only a look at it tells
_TEXTS = {
    "cond_stage_model.transformer.": "clip_l", "cond_stage_model.clip.": "clip_l", "cond_stage_model.model.": "clip_h",
    "conditioner.embedders.0.transformer.": "clip_l", "conditioner.embedders.1.model.": "clip_g",
    "conditioner.embedders.0.model.": "clip_g",
    "text_encoder.": "", "text_encoder_2.": "", "text_encoder_3.": "", "text_encoder_4.": "",
}  # fmt: skip
_COMFY_TEXT = re.compile(r"text_encoders\.(\w+)\.(?:transformer\.|model\.)?|(clip_[lgh]|t5\w*)\.(?:transformer\.)")
_TEXT_STARTS = ("cond_stage_model.", "conditioner.", "text_encoder", "clip_", "t5")
# Buffers and training state that files carry along and no model needs.
_HARMLESS = (
    "alphas_cumprod", "betas", "sqrt_", "log_one_minus_alphas", "posterior_", "logvar", "model_ema.", "global_step",
    "cond_stage_model.logit_scale", "text_projection", "logit_scale", "v_pred", "ztsnr", "edm_",
    "lvlb_weights", "denoiser.", "loss.",
    "first_stage_model.loss.", "safety_checker.", "embedding_manager.", "vision_model.",
    "image_encoder.", "feature_extractor.", "conditioner.embedders.", "text_encoders.", "model_sampling.",
    "__index_timestep_zero__",
)  # fmt: skip
# Flux, Chroma and their like: some programs save the norms of queries and keys under torch's name for its own RMSNorm
_NORM = re.compile(r"((?:double|single)_blocks\.\d+\.(?:\w+\.)?norm\.(?:query|key)_norm)\.weight")
_BARE_UNET = ("input_blocks", "middle_block", "output_blocks", "time_embed", "out", "label_emb")
_BARE_VAE = ("encoder", "decoder", "quant_conv", "post_quant_conv", "bn", "conv1", "conv2")


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text encoder's tensors. prefix: as in the file; hint: its kind as far as the prefix tells, else ""."""

    prefix: str
    hint: str
    inner: Inner


@dataclass(frozen=True, kw_only=True)
class Components:
    """kind: of the denoiser, "" where there is none that is known. ema: the denoiser is there as an average only."""

    kind: str = ""
    prefix: str = ""
    denoiser: Inner = field(default_factory=dict)
    texts: tuple[Text, ...] = ()
    vae: Inner = field(default_factory=dict)
    rest: tuple[str, ...] = ()
    ema: bool = False


@once
def components(header: Header) -> Components:
    """Sort the tensors of a folded header. What is not there is empty; this never raises."""
    keys = tuple(header.tensors)
    texts = _texts(keys)
    vae: Inner = next(filter(None, (ldm.strip(keys, prefix) for prefix in _VAES)), {})
    taken = {full for text in texts for full in text.inner.values()} | set(vae.values())
    left = [key for key in keys if key not in taken]
    kind, prefix, denoiser = _denoiser(left)
    ema = False
    if not kind and any(key.startswith("model_ema.diffusion_model") for key in left):
        denoiser = ldm.ema_names(key for key in left if key.startswith("model_ema."))
        kind, ema = kind_of(denoiser), True
    taken |= set(denoiser.values())
    rest = tuple(key for key in left if key not in taken and not harmless(key))
    return Components(kind=kind, prefix=prefix, denoiser=denoiser, texts=texts, vae=vae, rest=rest, ema=ema)


def _denoiser(keys: Iterable[str]) -> tuple[str, str, Inner]:
    keys = tuple(keys)
    for prefix in _DENOISERS:
        inner = _published(ldm.strip(keys, prefix))
        if inner and (kind := kind_of(inner)):
            return kind, prefix, inner
    bare = _published({key: key for key in keys})
    kind = kind_of(bare)
    if kind == "unet" and "time_embed.0.weight" in bare:
        bare = {key: key for key in keys if key.split(".")[0] in _BARE_UNET}
    elif kind:
        bare = {name: key for name, key in bare.items() if not harmless(key)}
    return (kind, "", bare) if kind else ("", "", {})


def _published(inner: Inner) -> Inner:
    """The names that a denoiser was published with, in place of later ones for the same."""
    return {_NORM.sub(r"\1.scale", name): full for name, full in inner.items()}


def _texts(keys: Iterable[str]) -> tuple[Text, ...]:
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        if prefix := _text_prefix(key):
            found.setdefault(prefix, {})[key[len(prefix) :]] = key
    texts = []
    for prefix, inner in found.items():
        if len(inner) > 2:  # a logit scale or projection alone is no encoder
            texts.append(Text(prefix=prefix, hint=_hint(prefix), inner=inner))
    return tuple(texts)


def _text_prefix(key: str) -> str:
    if not key.startswith(_TEXT_STARTS):
        return ""
    if comfy := _COMFY_TEXT.match(key):
        return comfy[0]
    return next((prefix for prefix in _TEXTS if key.startswith(prefix)), "")


def _hint(prefix: str) -> str:
    if comfy := _COMFY_TEXT.match(prefix):
        name = comfy[1] or comfy[2]
        return name if name in ("clip_l", "clip_g", "clip_h") else ""
    return _TEXTS[prefix]


def lone_text(header: Header) -> Text:
    """The tensors of a file that holds a text encoder alone, or of the first text encoder in a checkpoint."""
    keys = tuple(header.tensors)
    if texts := _texts(keys):
        return texts[0]
    return Text(prefix="", hint="", inner={key: key for key in keys})


def lone_vae(header: Header) -> Inner:
    """The tensors of a file that holds a VAE alone, with or without a prefix, or of the VAE in a checkpoint."""
    keys = tuple(header.tensors)
    found = next(filter(None, (ldm.strip(keys, prefix) for prefix in _VAES)), None)
    return found or {key: key for key in keys if key.split(".")[0] in _BARE_VAE}


def harmless(name: str) -> bool:
    """Whether a tensor is one that files carry along and no model needs."""
    return name.startswith(_HARMLESS) or name.endswith("position_ids") or "position_ids" in name
