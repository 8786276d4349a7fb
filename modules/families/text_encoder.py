"""A text encoder alone in a file: what a checkpoint without one needs, and what is no checkpoint."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import CheckpointError, CorruptCheckpoint, NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.denoisers import denoiser_kind
from modules.families.layouts.describe import described_alone, missing_of
from modules.families.layouts.parts import TEXT, text_parts

LABEL = "Text encoder"
# Kinds that a family uses -> as they are called
_USED = {
    "clip_l": "CLIP ViT-L", "clip_g": "OpenCLIP ViT-bigG", "clip_h": "OpenCLIP ViT-H", "t5": "T5",
    "qwen2_5_vl": "Qwen2.5-VL", "qwen3": "Qwen3",
}  # fmt: skip
_OTHERS = {
    "umt5": "UMT5, as Wan uses", "pile_t5": "Pile-T5, as AuraFlow uses", "qwen3_vl": "Qwen3-VL", "qwen2": "Qwen2",
    "gemma2": "Gemma 2, as Lumina 2 and Sana use", "gemma3": "Gemma 3", "llama": "Llama 3, as HiDream uses",
    "mistral": "Mistral, as Flux.2 uses", "language_model": "a language model",
}  # fmt: skip


@family("text_encoder", label=LABEL, rank=210)
def text_encoder(header: Header) -> ModelInfo:
    """Recognise CLIP, OpenCLIP, T5 and language models among checkpoints: named, and not loadable as one."""
    if denoiser_kind(header):
        raise NotAMatch(f"{header.file_name} holds more than a text encoder.")
    network = text_parts(header).networks.get(TEXT)
    if network is None:
        raise NotAMatch(f"{header.file_name} is no text encoder.")
    problem = "this is a text encoder, not a checkpoint: put it into models/text_encoder."
    return foreign(header, "text_encoder", LABEL, problem, variant=network.kind)


def identify_text_encoder(header: Header) -> ModelInfo:
    """Describe a file as a text encoder, its kind as `variant`; never raises for a readable model file.

    A checkpoint that holds one counts as one: its first is used. supported False: `problem` says why. The component
    is "text_encoder", whatever it will be in the model that it is used with.
    """
    try:
        return _describe(header)
    except CheckpointError as error:
        return foreign(header, "text_encoder", LABEL, str(error))


def _describe(header: Header) -> ModelInfo:
    name = header.file_name
    parts = text_parts(header)
    network = parts.networks.get(TEXT)
    if network is None:
        raise NotAMatch(f"{name} is no text encoder: it has no token embeddings.")
    if network.missing:
        raise CorruptCheckpoint(missing_of(header, network.missing, "text encoder"), hint="Download it again.")
    problem = ""
    if network.kind not in _USED:
        known = _OTHERS.get(network.kind, network.kind)
        problem = f"{name} is {known}, which no model that is loaded here from single files uses."
    label = f"{LABEL} ({_USED.get(network.kind) or network.kind})"
    return described_alone(header, parts, TEXT, label=label, problem=problem)
