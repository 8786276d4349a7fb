"""A VAE alone in a file: what the VAE menu offers, and what is no checkpoint."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import CheckpointError, CorruptCheckpoint, NotAMatch
from modules.core.family import family, foreign, part_of_several
from modules.families.layouts.describe import described_alone, missing_of
from modules.families.layouts.network import Network
from modules.families.layouts.other_vaes import other_vae
from modules.families.layouts.parts import VAE, vae_parts
from modules.families.layouts.prefixes import harmless

LABEL = "VAE"
_USED = {"kl4": "Stable Diffusion 1, 2, XL", "kl16": "SD3, Flux, Chroma, Z-Image", "qwen": "Qwen-Image"}
_PREVIEWS = ("taesd", "taehv")
_PREFIXES = ("first_stage_model.", "vae.")
_HEADS = {
    "encoder", "decoder", "quant_conv", "post_quant_conv", "bn", "conv1", "conv2", "per_channel_statistics", "quantize",
    "latents_mean", "latents_std", "timestep_scale_multiplier",
}  # fmt: skip
_UNUSED = "which no model that is loaded here from single files uses"


@family("vae", label=LABEL, rank=200)
def vae(header: Header) -> ModelInfo:
    """Recognise a VAE among checkpoints: named, and not loadable as one."""
    kind, what = other_vae(header)
    heads = {name.split(".")[0] for name in header.tensors if not harmless(name)}
    bare = heads <= _HEADS and "decoder" in heads
    if not what and not bare and not any(name.startswith(_PREFIXES) for name in header.tensors):
        raise NotAMatch(f"{header.file_name} is no VAE.")
    if any(name.startswith(("encoder.block.", "decoder.block.0.layer")) for name in header.tensors) and not what:
        raise NotAMatch(f"{header.file_name} is a text model.")
    network = vae_parts(header).networks.get(VAE)
    if network is None and kind in _PREVIEWS:
        raise NotAMatch(f"{header.file_name} is a preview decoder.")
    if network is None:
        what = what or "a VAE of a kind that is not known here"
        return foreign(header, "vae", LABEL, f"this is {what}, {_UNUSED}.", variant=kind or "other")
    known = f" ({_USED[network.kind]})" if network.kind in _USED else ""
    problem = f"this is a VAE{known}, not a checkpoint: put it into models/VAE."
    if problem_of_it := "" if network.missing and not network.unknown else _problem(network, what):
        problem = f"this is {problem_of_it}."
    return foreign(header, "vae", LABEL, problem, variant=network.kind)


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
    if part := part_of_several(header):
        raise NotAMatch(f"{name}: {part}")
    parts = vae_parts(header)
    network = parts.networks.get(VAE)
    kind, what = other_vae(header)
    if network is None:
        if what:
            unused = "" if kind in _PREVIEWS else f", {_UNUSED}"
            return foreign(header, "vae", LABEL, f"{name} is {what}{unused}.", variant=kind)
        if any(key.startswith("decoder.") for key in header.tensors):
            raise NotAMatch(f"{name} is a VAE of a kind that is not known here, or no VAE.")
        raise NotAMatch(f"{name} is no VAE: it has no decoder.")
    if network.missing and not network.unknown:
        raise CorruptCheckpoint(missing_of(header, network.missing, "VAE"), hint="Download it again.")
    problem = _problem(network, what)
    problem = f"{name} is {problem}." if problem else ""
    label = f"{LABEL} ({_USED[network.kind]})" if network.kind in _USED else LABEL
    return described_alone(header, parts, VAE, label=label, problem=problem)


def _problem(network: Network, what: str) -> str:
    """What a VAE is that cannot be used, after "this is"; "" for one that can. what: where a name tells it."""
    if network.unknown:
        count, first = len(network.unknown), network.unknown[0]
        known = f"it has {count} {'tensor' if count == 1 else 'tensors'} such as {first}"
        return what or f"a VAE of a kind that is not known here: {known}"
    if network.kind in _USED:
        return ""
    channels = network.config["latent_channels"]
    return f"a VAE of {channels} latent channels{', as Flux.2 has' if channels == 32 else ''}, {_UNUSED}"
