"""A text encoder alone in a file: what a checkpoint without one needs, and what is no checkpoint."""

from __future__ import annotations

import re

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import CheckpointError, CorruptCheckpoint, NotAMatch
from modules.core.family import family, foreign, part_of_several
from modules.families.layouts.denoisers import denoiser_kind
from modules.families.layouts.describe import described_alone, missing_of, packed_otherwise
from modules.families.layouts.packed import replaced
from modules.families.layouts.parts import TEXT, text_parts

LABEL = "Text encoder"
# Kinds that a family uses -> as they are called
_USED = {
    "clip_l": "CLIP ViT-L", "clip_g": "OpenCLIP ViT-bigG", "clip_h": "OpenCLIP ViT-H", "t5": "T5",
    "qwen2_5_vl": "Qwen2.5-VL", "qwen3": "Qwen3",
}  # fmt: skip
_OTHERS = {
    "umt5": "UMT5, as Wan uses", "mt5": "mT5, as HunyuanDiT uses", "byt5": "ByT5, as HunyuanImage uses",
    "qwen2_vl": "Qwen2-VL", "pile_t5": "Pile-T5, as AuraFlow uses", "qwen3_vl": "Qwen3-VL", "qwen2": "Qwen2",
    "gemma2": "Gemma 2, as Lumina 2 and Sana use", "gemma3": "Gemma 3", "mistral": "Mistral, as Flux.2 uses",
    "llama": "Llama 3, as HiDream and HunyuanVideo use", "language_model": "a language model",
    "chatglm3": "ChatGLM3, as Kolors uses", "jina_clip": "Jina CLIP, as NewBie Image uses",
    "gpt_oss": "GPT-OSS, as Lens uses", "phi3": "Phi-3, as OmniGen uses", "bert": "BERT, as HunyuanDiT uses",
}  # fmt: skip
# Of those that nothing more is read of: a name that no other has
_MARKS = {
    "chatglm3": re.compile(r"(^|\.)encoder\.layers\.0\.self_attention\.query_key_value\.weight$"),
    "jina_clip": re.compile(r"(^|\.)encoder\.layers\.0\.mixer\.Wqkv\.weight$"),
    "gpt_oss": re.compile(r"(^|\.)layers\.0\.self_attn\.sinks$"),
    "phi3": re.compile(r"^model\.layers\.0\.self_attn\.qkv_proj\.weight$"),
    "bert": re.compile(r"^bert\.embeddings\.word_embeddings\.weight$"),
}
_UNUSED = "which no model that is loaded here from single files uses"


@family("text_encoder", label=LABEL, rank=210)
def text_encoder(header: Header) -> ModelInfo:
    """Recognise CLIP, OpenCLIP, T5 and language models among checkpoints: named, and not loadable as one."""
    if denoiser_kind(header):
        raise NotAMatch(f"{header.file_name} holds more than a text encoder.")
    kind = _marked(header)
    if not kind:
        network = text_parts(header).networks.get(TEXT)
        if network is None:
            raise NotAMatch(f"{header.file_name} is no text encoder.")
        kind = network.kind
    if kind in _USED:
        what = f"a text encoder ({_USED[kind]}), not a checkpoint: put it into models/text_encoder"
    else:
        what = f"a text encoder: {_OTHERS.get(kind, kind)}, {_UNUSED}"
    return foreign(header, "text_encoder", LABEL, f"this is {what}.", variant=kind)


def identify_text_encoder(header: Header) -> ModelInfo:
    """Describe a file as a text encoder, its kind as `variant`; never raises for a readable model file.

    A checkpoint that holds one counts as one: its first is used. supported False: `problem` says why. The component
    is "text_encoder", whatever it will be in the model that it is used with.
    """
    try:
        return _describe(header)
    except CheckpointError as error:
        return foreign(header, "text_encoder", LABEL, str(error))


def _marked(header: Header) -> str:
    found = (kind for kind, mark in _MARKS.items() if any(mark.search(name) for name in header.tensors))
    kind = next(found, "")
    if kind == "bert" and any(not name.startswith(("bert.", "cls.")) for name in header.tensors):
        return ""  # a part of what looks at pictures
    return kind


def _describe(header: Header) -> ModelInfo:
    name = header.file_name
    if part := part_of_several(header):
        raise NotAMatch(f"{name}: {part}")
    if kind := _marked(header):
        return foreign(header, "text_encoder", LABEL, f"{name} is {_OTHERS[kind]}, {_UNUSED}.", variant=kind)
    parts = text_parts(header)
    network = parts.networks.get(TEXT)
    if network is None:
        if problem := packed_otherwise(replaced(header), f"{name} is a file"):
            raise NotAMatch(problem)
        raise NotAMatch(f"{name} is no text encoder: it has no token embeddings.")
    if network.missing:
        raise CorruptCheckpoint(missing_of(header, network.missing, "text encoder"), hint="Download it again.")
    problem = ""
    if network.kind not in _USED:
        known = _OTHERS.get(network.kind, network.kind)
        problem = f"{name} is {known}, {_UNUSED}."
    label = f"{LABEL} ({_USED.get(network.kind) or network.kind})"
    return described_alone(header, parts, TEXT, label=label, problem=problem)
