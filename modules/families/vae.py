"""A VAE alone in a file: what the VAE menu offers, and what is no checkpoint."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import CheckpointError, CorruptCheckpoint, NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.describe import described_alone, missing_of
from modules.families.layouts.parts import VAE, vae_parts
from modules.families.layouts.prefixes import harmless

LABEL = "VAE"
_USED = {"kl4": "Stable Diffusion 1, 2, XL", "kl16": "SD3, Flux, Chroma, Z-Image", "qwen": "Qwen-Image"}
# A name that only such a decoder has -> its kind and what it is called
_OTHERS = {
    "decoder.layers.1.weight": ("taesd", "a TAESD preview decoder, not a VAE: put it into models/VAE-approx"),
    "decoder.layers.0.weight": ("taesd", "a TAESD preview decoder, not a VAE: put it into models/VAE-approx"),
    "1.weight": ("taesd", "a TAESD preview decoder, not a VAE: put it into models/VAE-approx"),
    "decoder.1.weight": ("taehv", "a preview decoder of videos, not a VAE: put it into models/VAE-approx"),
    "decoder.stages.1.op_list.0.main.conv.conv.bias": ("dc-ae", "a deep compression VAE, as Sana uses"),
    "decoder.up_blocks.0.0.conv1.conv.weight": ("dc-ae", "a deep compression VAE, as Sana uses"),
    "decoder.up_blocks.0.0.conv.weight": ("dc-ae", "a deep compression VAE, as Sana uses"),
    "decoder.project_in.conv.weight": ("dc-ae", "a deep compression VAE, as Sana uses"),
    "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": ("ltx", "the VAE of LTX-Video"),
    "per_channel_statistics.mean-of-means": ("ltx", "the VAE of LTX-Video"),
    "decoder.mid.block_1.conv1.conv.weight": ("video", "the VAE of a video model"),
    "decoder.mid_block.resnets.0.conv1.conv.weight": ("video", "the VAE of a video model"),
    "decoder.up_blocks.0.resnets.0.spatial_res_block.conv1.weight": ("video", "the VAE of a video model"),
}
_PREFIXES = ("first_stage_model.", "vae.")
_HEADS = {
    "encoder", "decoder", "quant_conv", "post_quant_conv", "bn", "conv1", "conv2", "per_channel_statistics", "quantize",
    "latents_mean", "latents_std", "timestep_scale_multiplier",
}  # fmt: skip


@family("vae", label=LABEL, rank=200)
def vae(header: Header) -> ModelInfo:
    """Recognise a VAE among checkpoints: named, and not loadable as one."""
    heads = {name.split(".")[0] for name in header.tensors if not harmless(name)}
    if not (heads <= _HEADS and "decoder" in heads) and not any(name.startswith(_PREFIXES) for name in header.tensors):
        raise NotAMatch(f"{header.file_name} is no VAE.")
    if any(name.startswith(("encoder.block.", "decoder.block.0.layer")) for name in header.tensors):
        raise NotAMatch(f"{header.file_name} is a text model.")
    parts = vae_parts(header)
    other = next((mark for mark in _OTHERS if mark in header.tensors), "")
    kind = parts.networks[VAE].kind if VAE in parts.networks else _OTHERS[other][0] if other else "other"
    if kind in ("taesd", "taehv"):
        raise NotAMatch(f"{header.file_name} is a preview decoder.")
    return foreign(header, "vae", LABEL, "this is a VAE, not a checkpoint: put it into models/VAE.", variant=kind)


def identify_vae(header: Header) -> ModelInfo:
    """Describe a file as a VAE, its kind as `variant`; never raises for a readable model file.

    A checkpoint that holds a VAE counts as one: its VAE is used. supported False: `problem` says why. Scaling and shift
    of the latents are in the configuration only where the file says them: the family of the model decides them.
    """
    try:
        return _describe(header)
    except CheckpointError as error:
        return foreign(header, "vae", LABEL, str(error))


def _describe(header: Header) -> ModelInfo:
    name = header.file_name
    parts = vae_parts(header)
    network = parts.networks.get(VAE)
    if network is None:
        for mark, (kind, what) in _OTHERS.items():
            if mark in header.tensors:
                return foreign(header, "vae", LABEL, f"{name} is {what}.", variant=kind)
        raise NotAMatch(f"{name} is no VAE: it has no decoder.")
    if network.missing:
        raise CorruptCheckpoint(missing_of(header, network.missing, "VAE"), hint="Download it again.")
    problem = ""
    if network.unknown:
        count, first = len(network.unknown), network.unknown[0]
        problem = f"{name} is a VAE of a kind that is not known here: it has {count} tensors such as {first}."
    elif network.kind not in _USED:
        channels = network.config["latent_channels"]
        whose = ", as Flux.2 has; no model that is loaded here from single files uses it" if channels == 32 else ""
        problem = f"{name} is a VAE of {channels} latent channels{whose or ', which no model known here uses'}."
    label = f"{LABEL} ({_USED[network.kind]})" if network.kind in _USED else LABEL
    return described_alone(header, parts, VAE, label=label, problem=problem)
