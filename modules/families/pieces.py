"""Files that lie beside checkpoints and are none: embeddings, upscalers, preview decoders."""

from __future__ import annotations

from collections.abc import Callable

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Family, foreign


def _few_tensors(name: str, label: str, place: str, marks: Callable[[Header], bool]) -> Family:
    def detect(header: Header) -> ModelInfo:
        if not marks(header):
            raise NotAMatch(f"{header.path.name} is no {label}.")
        article = "an" if label[0] in "aeiou" else "a"
        return foreign(header, name, label, f"this is {article} {label}, not a checkpoint: put it into models/{place}.")

    return Family(name=name, label=label, detect=detect, rank=220)


def _is_embedding(header: Header) -> bool:
    names = set(header.tensors)
    return bool(names & {"emb_params", "clip_l", "clip_g"}) or (len(names) == 1 and "string_to_param.*" in names)


def _is_upscaler(header: Header) -> bool:
    marks = ("model.0.weight", "RRDB_trunk.0.RDB1.conv1.weight", "body.0.rdb1.conv1.weight", "conv_first.weight")
    return any(mark in header.tensors for mark in marks)


def _is_preview_decoder(header: Header) -> bool:
    return "decoder.layers.1.weight" in header.tensors or {"1.weight", "3.conv.0.weight"} <= set(header.tensors)


embedding = _few_tensors("embedding", "embedding", "embeddings", _is_embedding)
upscaler = _few_tensors("upscaler", "upscaler", "ESRGAN", _is_upscaler)
preview_decoder = _few_tensors("taesd", "TAESD preview decoder", "VAE-approx", _is_preview_decoder)
