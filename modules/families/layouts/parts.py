"""A Stable Diffusion file's tensors sorted into UNet, text encoder and VAE, under diffusers' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modules.core.checkpoint import DTYPE_BYTES, Header
from modules.families.layouts import names

UNET, TEXT, VAE = "unet", "text_encoder", "vae"
# Buffers and training state that files carry along and no model needs.
HARMLESS = (
    "position_ids", "alphas_cumprod", "betas", "sqrt_", "log_one_minus_alphas", "posterior_", "logvar", "model_ema.",
    "global_step", "cond_stage_model.logit_scale", "text_projection", "logit_scale", "v_pred", "ztsnr", "lvlb_weights",
    "denoiser.", "first_stage_model.loss.", "safety_checker.", "embedding_manager.",
    "vision_model.",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Parts:
    """layout: "original" or "diffusers". unet, text_encoder, vae: diffusers name -> name in the file.

    rest: names that belong to no part and are not known to be harmless. ema: the UNet is there as an average only.
    """

    layout: str
    unet: Mapping[str, str] = field(default_factory=dict)
    text_encoder: Mapping[str, str] = field(default_factory=dict)
    vae: Mapping[str, str] = field(default_factory=dict)
    rest: tuple[str, ...] = ()
    ema: bool = False

    @property
    def present(self) -> tuple[str, ...]:
        """The parts that are there, in the order text to picture."""
        return tuple(part for part in (UNET, TEXT, VAE) if self.of(part))

    def of(self, part: str) -> Mapping[str, str]:
        """The name table of `part`."""
        return {UNET: self.unet, TEXT: self.text_encoder, VAE: self.vae}[part]


def sort_parts(header: Header) -> Parts:
    """Sort a file's tensors into parts. A file without any known part gives empty ones; this never raises."""
    keys = tuple(header.tensors)
    if any(key.startswith(("unet.", "vae.", "text_encoder.")) for key in keys) or _bare_diffusers(header):
        return _diffusers(keys)
    return _original(keys)


def _bare_diffusers(header: Header) -> bool:
    return "time_embedding.linear_1.weight" in header.tensors


def _original(keys: tuple[str, ...]) -> Parts:
    unet = names.strip(keys, "model.diffusion_model.")
    if not unet and "time_embed.0.weight" in keys and "input_blocks.0.0.weight" in keys:
        unet = {key: key for key in keys if key.split(".")[0] in _BARE_UNET}
    ema = not unet and any(key.startswith("model_ema.diffusion_model") for key in keys)
    if ema:
        unet = names.ema_names(key for key in keys if key.startswith("model_ema."))
    text = {**names.strip(keys, "cond_stage_model.transformer."), **names.strip(keys, "cond_stage_model.clip.")}
    vae = names.strip(keys, "first_stage_model.")
    return _parts("original", keys, unet=_through(names.unet_names(unet), unet), text=text, vae=vae, ema=ema)


_BARE_UNET = ("input_blocks", "middle_block", "output_blocks", "time_embed", "out", "label_emb")


def _diffusers(keys: tuple[str, ...]) -> Parts:
    unet = names.strip(keys, "unet.")
    if not unet and "time_embedding.linear_1.weight" in keys:
        unet = {key: key for key in keys if not key.startswith(("vae.", "text_encoder."))}
    return _parts(
        "diffusers", keys, unet=unet, text=names.strip(keys, "text_encoder."), vae=names.strip(keys, "vae."), ema=False
    )


def _parts(
    layout: str,
    keys: tuple[str, ...],
    *,
    unet: Mapping[str, str],
    text: Mapping[str, str],
    vae: Mapping[str, str],
    ema: bool,
) -> Parts:
    text = {name: key for name, key in _through(names.text_names(text), text).items() if not _harmless(name)}
    vae = {name: key for name, key in _through(names.vae_names(vae), vae).items() if not _harmless(name)}
    taken = {*unet.values(), *text.values(), *vae.values()}
    rest = tuple(key for key in keys if key not in taken and not _harmless(key) and "position_ids" not in key)
    return Parts(layout=layout, unet=unet, text_encoder=text, vae=vae, rest=rest, ema=ema)


def _through(outer: Mapping[str, str], inner: Mapping[str, str]) -> dict[str, str]:
    return {new: inner[middle] for new, middle in outer.items()}


def _harmless(name: str) -> bool:
    return name.startswith(HARMLESS) or name.endswith("position_ids")


def vae_parts(header: Header) -> Parts:
    """The parts of a file that holds a VAE alone, with or without a prefix, in either layout."""
    keys = tuple(header.tensors)
    vae: Mapping[str, str] = names.strip(keys, "first_stage_model.") or names.strip(keys, "vae.")
    if not vae:
        vae = {key: key for key in keys if key.split(".")[0] in ("encoder", "decoder", "quant_conv", "post_quant_conv")}
    diffusers = any(key.startswith(("decoder.up_blocks.", "encoder.down_blocks.")) for key in vae)
    return _parts("diffusers" if diffusers else "original", keys, unet={}, text={}, vae=vae, ema=False)


def text_parts(header: Header) -> Parts:
    """The parts of a file that holds a CLIP text encoder alone, under whichever prefix programs store it."""
    keys = tuple(header.tensors)
    text: Mapping[str, str] = next(filter(None, (names.strip(keys, prefix) for prefix in _TEXT_PREFIXES)), {})
    if not text:
        text = {key: key for key in keys if key.startswith(("text_model.", "embeddings.", "encoder.layers.", "final_"))}
    layout = "original" if any(key.startswith("cond_stage_model.") for key in text.values()) else "diffusers"
    return _parts(layout, keys, unet={}, text=text, vae={}, ema=False)


_TEXT_PREFIXES = (
    "cond_stage_model.transformer.", "cond_stage_model.clip.", "text_encoder.", "text_encoders.clip_l.transformer.",
    "clip_l.transformer.", "transformer.text_model.", "clip_l.text_model.",
)  # fmt: skip


def main_dtype(header: Header) -> str:
    """The safetensors dtype that most weight bytes have."""
    totals: dict[str, float] = {}
    for info in header.tensors.values():
        totals[info.dtype] = totals.get(info.dtype, 0) + info.offsets[1] - info.offsets[0]
    known = {dtype: size for dtype, size in totals.items() if dtype in DTYPE_BYTES}
    return max(known, key=lambda dtype: known[dtype], default="F32")
