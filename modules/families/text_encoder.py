"""A text encoder alone in a file: what a checkpoint without one needs, and what is no checkpoint."""

from __future__ import annotations

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import CheckpointError, CorruptCheckpoint, NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.dims import Shapes, expected_text, text_config, told_config
from modules.families.layouts.parts import TEXT, main_dtype, text_parts

LABEL = "Text encoder"
_TOKENS = "embeddings.token_embedding.weight"
# How the text encoders of other families begin, and whose they are
_OTHERS = {
    "encoder.block.0.layer.0.SelfAttention.q.weight": "a T5 text encoder, as Stable Diffusion 3 and Flux use",
    "model.embed_tokens.weight": "a language model",
    "transformer.resblocks.0.attn.in_proj_weight": "an OpenCLIP text encoder, as Stable Diffusion 2 uses",
}


@family("text_encoder", label=LABEL, rank=210)
def text_encoder(header: Header) -> ModelInfo:
    """Recognise CLIP, OpenCLIP, T5 and language models among checkpoints: named, and not loadable as one."""
    if _TOKENS not in text_parts(header).text_encoder and not any(mark in header.tensors for mark in _OTHERS):
        raise NotAMatch(f"{header.path.name} is no text encoder.")
    problem = "this is a text encoder, not a checkpoint: put it into models/text_encoder."
    return foreign(header, "text_encoder", LABEL, problem)


def identify_text_encoder(header: Header) -> ModelInfo:
    """Describe a file as a CLIP text encoder; never raises for a readable safetensors file.

    A checkpoint that holds one counts as one: its text encoder is used. supported False: `problem` says why.
    """
    try:
        return _describe(header)
    except CheckpointError as error:
        return foreign(header, "text_encoder", LABEL, str(error))


def _describe(header: Header) -> ModelInfo:
    name = header.path.name
    parts = text_parts(header)
    if _TOKENS not in parts.text_encoder:
        kind = next((kind for mark, kind in _OTHERS.items() if mark in header.tensors), "")
        known = f"is {kind}; Stable Diffusion 1 has CLIP" if kind else "is no text encoder: it has no token embeddings"
        raise NotAMatch(f"{name} {known}.")
    shapes = Shapes(header, parts.text_encoder)
    config = text_config(shapes, told_config(header).get(TEXT, {}))
    missing = [wanted for wanted in expected_text(config) if wanted not in parts.text_encoder]
    if missing:
        raise CorruptCheckpoint(f"{name} is incomplete: {', '.join(missing[:3])} of the text encoder are missing.")
    return ModelInfo(
        name=header.path.stem,
        path=str(header.path),
        family="text_encoder",
        label=LABEL,
        supported=True,
        dtype=main_dtype(header),
        layout=parts.layout,
        components=(TEXT,),
        size=header.size,
        mtime_ns=header.mtime_ns,
        config={TEXT: config},
        metadata=header.metadata,
    )
