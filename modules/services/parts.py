"""Which VAE and text encoder a checkpoint is used with: those that were chosen, its own, or files that fit it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from modules.core.checkpoint import ModelInfo, Separate
from modules.core.errors import RequestError, UnsupportedCheckpoint
from modules.families.layouts.parts import TEXT, UNET, VAE

AUTOMATIC, NONE = "automatic", "none"
CLIP_L_WIDTH, CLIP_L_LAYERS, CLIP_TOKENS = 768, 12, 77
USUAL_ENCODER = "clip_l"  # its file name wherever it is offered for download


class Files(Protocol):
    """What is asked of the catalog."""

    def vaes(self) -> Sequence[ModelInfo]: ...
    def text_encoders(self) -> Sequence[ModelInfo]: ...
    def find_vae(self, text: str) -> ModelInfo: ...
    def find_text_encoder(self, text: str) -> ModelInfo: ...


def choose_parts(info: ModelInfo, *, vae: str, text_encoder: str, files: Files) -> Separate[ModelInfo]:
    """The files to use beside checkpoint `info`. vae, text_encoder: a name, "Automatic", and for the VAE "None".

    Raises RequestError, which names what is missing and what would fit, or CheckpointError for an unusable choice.
    """
    return Separate(text_encoder=_text_encoder(info, text_encoder.strip(), files), vae=_vae(info, vae.strip(), files))


def complete(info: ModelInfo, files: Files) -> bool:
    """Whether there is a file for every part that the checkpoint lacks."""
    return (TEXT in info.components or _fitting_encoder(info, files) is not None) and (
        VAE in info.components or vae_beside(info, files) is not None or _fitting_vae(files) is not None
    )


def _vae(info: ModelInfo, chosen: str, files: Files) -> ModelInfo | None:
    choice = chosen.lower()
    if choice not in (AUTOMATIC, NONE):
        return _usable(files.find_vae(chosen))
    found = vae_beside(info, files) if choice == AUTOMATIC else None
    if found is not None or VAE in info.components:
        return found
    found = _fitting_vae(files) if choice == AUTOMATIC else None
    if found is None:
        missing = "" if choice == NONE else ", and there is no file that fits"
        raise RequestError(
            "vae",
            f"{info.name} has no VAE of its own{missing}",
            accepted="a VAE file in models/VAE, such as vae-ft-mse-840000-ema-pruned.safetensors, which fits every "
            "Stable Diffusion 1 checkpoint",
        )
    return found


def vae_beside(info: ModelInfo, files: Files) -> ModelInfo | None:
    """The VAE that is named after the checkpoint, beside it or in a VAE folder: AUTOMATIC1111 prefers it, too."""
    own = Path(info.path)
    named = [vae for vae in files.vaes() if vae.supported and _stem(vae) == own.stem.casefold()]
    return min(named, key=lambda vae: (Path(vae.path).parent != own.parent, vae.path), default=None)


def _stem(vae: ModelInfo) -> str:
    return Path(vae.path).stem.casefold().removesuffix(".vae")


def _fitting_vae(files: Files) -> ModelInfo | None:
    """The first VAE by name that nothing speaks against.

    The VAE of SDXL has the same shapes and other latents: a name is all that tells it. One that is named after another
    checkpoint was made for that one.
    """
    fitting = [vae for vae in files.vaes() if vae.supported and "xl" not in vae.name.casefold()]
    return min(fitting, key=lambda vae: (Path(vae.path).stem.lower().endswith(".vae"), vae.name), default=None)


def _text_encoder(info: ModelInfo, chosen: str, files: Files) -> ModelInfo | None:
    width = _wanted_width(info)
    if chosen.lower() != AUTOMATIC:
        encoder = _usable(files.find_text_encoder(chosen))
        if width is not None and _dimensions(encoder)[0] != width:
            raise RequestError(
                "text_encoder",
                f"{encoder.name} has a width of {_dimensions(encoder)[0]}, and {info.name} needs {width}",
                accepted=_would_fit(width),
            )
        return encoder
    if TEXT in info.components:
        return None
    found = _fitting_encoder(info, files)
    if found is None:
        raise RequestError(
            "text_encoder",
            f"{info.name} has no text encoder of its own, and there is no file that fits",
            accepted=_would_fit(width),
        )
    return found


def _would_fit(width: int | None) -> str:
    if width in (None, CLIP_L_WIDTH):
        return (
            "a CLIP-L file in models/text_encoder, such as clip_l.safetensors, the text encoder of any "
            "Stable Diffusion 1 checkpoint"
        )
    return f"a CLIP text encoder file of width {width} in models/text_encoder"


def _fitting_encoder(info: ModelInfo, files: Files) -> ModelInfo | None:
    width = _wanted_width(info)
    fitting = [
        encoder
        for encoder in files.text_encoders()
        if encoder.supported
        and (dimensions := _dimensions(encoder))[0] == width
        and (width != CLIP_L_WIDTH or dimensions[1] == CLIP_L_LAYERS)
    ]
    return min(fitting, key=_unusual, default=None)


def _unusual(encoder: ModelInfo) -> tuple[bool, bool, str]:
    """Orders text encoders: as they were trained first, those stretched to longer texts behind, then by name."""
    tokens = encoder.config[TEXT].get("max_position_embeddings", CLIP_TOKENS)
    return tokens != CLIP_TOKENS, USUAL_ENCODER not in encoder.name.casefold(), encoder.name


def _wanted_width(info: ModelInfo) -> int | None:
    width = info.config.get(UNET, {}).get("cross_attention_dim")
    return width if isinstance(width, int) else None


def _dimensions(encoder: ModelInfo) -> tuple[int | None, int | None]:
    config = encoder.config.get(TEXT, {})
    return config.get("hidden_size"), config.get("num_hidden_layers")


def _usable(info: ModelInfo) -> ModelInfo:
    if not info.supported:
        raise UnsupportedCheckpoint(info.problem or f"{info.name} cannot be used.")
    return info
