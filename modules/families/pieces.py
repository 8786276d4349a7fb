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
    few = len(names) <= 4
    return few and (bool(names & {"emb_params", "clip_l", "clip_g"}) or "string_to_param.*" in names)


def _is_upscaler(header: Header) -> bool:
    marks = (
        "model.0.weight", "RRDB_trunk.0.RDB1.conv1.weight", "body.0.rdb1.conv1.weight", "conv_first.weight",
        "layers.0.residual_group.blocks.0.norm1.weight", "upsample.0.weight", "to_img.0.weight", "feats.0.weight",
    )  # fmt: skip
    return any(mark in header.tensors for mark in marks)


def _is_preview_decoder(header: Header) -> bool:
    marks = (
        {"decoder.layers.1.weight"},
        {"decoder.layers.0.weight", "encoder.layers.0.weight"},
        {"1.weight", "3.conv.0.weight"},
        {"decoder.1.weight", "decoder.3.conv.0.weight"},
    )
    return any(mark <= set(header.tensors) for mark in marks)


def _is_picture_encoder(header: Header) -> bool:
    marks = ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight", "vision_model.head.probe")
    return any(mark in header.tensors for mark in marks)


def _is_hypernetwork(header: Header) -> bool:
    return any(name.split(".")[0] in ("320", "640", "768", "1280") and ".linear." in name for name in header.tensors)


embedding = _few_tensors("embedding", "embedding", "embeddings", _is_embedding)
upscaler = _few_tensors("upscaler", "upscaler", "ESRGAN", _is_upscaler)
preview_decoder = _few_tensors("taesd", "TAESD preview decoder", "VAE-approx", _is_preview_decoder)
picture_encoder = _few_tensors("clip_vision", "CLIP picture encoder", "clip_vision", _is_picture_encoder)
hypernetwork = _few_tensors("hypernetwork", "hypernetwork", "hypernetworks", _is_hypernetwork)
