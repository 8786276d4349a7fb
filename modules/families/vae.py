"""A VAE alone in a file: what the VAE menu offers, and what is no checkpoint."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import CheckpointError, CorruptCheckpoint, NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.dims import Shapes, expected_vae, told_config, vae_config
from modules.families.layouts.parts import VAE, main_dtype, vae_parts

LABEL = "VAE"
LATENTS = 4


@family("vae", label=LABEL, rank=200)
def vae(header: Header) -> ModelInfo:
    """Recognise a VAE among checkpoints: named, and not loadable as one."""
    parts = vae_parts(header)
    if "decoder.conv_in.weight" not in parts.vae or parts.rest:
        raise NotAMatch(f"{header.path.name} is no VAE.")
    return foreign(header, "vae", LABEL, "this is a VAE, not a checkpoint: put it into models/VAE.")


def identify_vae(header: Header) -> ModelInfo:
    """Describe a file as a VAE for Stable Diffusion 1; never raises for a readable safetensors file.

    A checkpoint that holds a VAE counts as one: its VAE is used. supported False: `problem` says why.
    """
    try:
        return _describe(header)
    except CheckpointError as error:
        return foreign(header, "vae", LABEL, str(error))


def _describe(header: Header) -> ModelInfo:
    name = header.path.name
    parts = vae_parts(header)
    shapes = Shapes(header, parts.vae)
    if not shapes.has("decoder.conv_in.weight"):
        if "decoder.layers.1.weight" in header.tensors or "1.weight" in header.tensors:
            raise NotAMatch(f"{name} is a TAESD preview decoder, not a VAE: put it into models/VAE-approx.")
        raise NotAMatch(f"{name} is no VAE: it has no decoder.")
    channels = shapes("decoder.conv_in.weight")[1]
    if channels != LATENTS:
        other = {16: "SD3 and Flux", 32: "Flux 2"}.get(channels, "other families")
        raise NotAMatch(f"{name} is a VAE of {channels} latent channels, as {other} have; Stable Diffusion 1 has 4.")
    config = vae_config(shapes, told_config(header).get(VAE, {}))
    missing = [wanted for wanted in expected_vae(config) if wanted not in parts.vae]
    if missing:
        raise CorruptCheckpoint(f"{name} is incomplete: {', '.join(missing[:3])} of the VAE are missing.")
    return ModelInfo(
        name=header.path.stem,
        path=str(header.path),
        family="vae",
        label=LABEL,
        supported=True,
        dtype=main_dtype(header),
        layout=parts.layout,
        components=(VAE,),
        size=header.size,
        mtime_ns=header.mtime_ns,
        config={VAE: config},
        metadata=header.metadata,
    )
