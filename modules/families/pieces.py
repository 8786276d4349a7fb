"""Files that lie beside checkpoints and are none: embeddings, upscalers, preview decoders, what looks at pictures."""

from __future__ import annotations

from collections.abc import Callable

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Family, foreign

_WRAPPERS = ("params_ema.", "params.", "module.")  # training programs keep an upscaler's tensors one level down
_TEXT_WIDTHS = (768, 1024, 1280)  # of the text encoders that embeddings are made for


def _few_tensors(name: str, label: str, place: str, marks: Callable[[Header], bool]) -> Family:
    """place: where it belongs, "" for what nothing is done with here."""

    def detect(header: Header) -> ModelInfo:
        if not marks(header):
            raise NotAMatch(f"{header.path.name} is no {label}.")
        article = "an" if label[0] in "aeiou" else "a"
        rest = f": put it into models/{place}" if place else ", and nothing here uses it"
        return foreign(header, name, label, f"this is {article} {label}, not a checkpoint{rest}.")

    return Family(name=name, label=label, detect=detect, rank=220)


def _is_embedding(header: Header) -> bool:
    names = set(header.tensors)
    if len(names) == 1:  # diffusers names it after its word
        (name, info) = next(iter(header.tensors.items()))
        vectors = len(info.shape) in (1, 2) and info.shape[-1] in _TEXT_WIDTHS and info.shape[:-1] < (256,)
        return name in ("emb_params", "string_to_param.*") or (vectors and not name.endswith((".weight", ".bias")))
    known = {"emb_params", "clip_l", "clip_g", "string_to_param.*", "text_encoders_0"}
    return len(names) <= 4 and bool(names & known)


def _is_upscaler(header: Header) -> bool:
    marks = (
        "model.0.weight", "RRDB_trunk.0.RDB1.conv1.weight", "body.0.rdb1.conv1.weight", "conv_first.weight",
        "layers.0.residual_group.blocks.0.norm1.weight", "upsample.0.weight", "to_img.0.weight", "feats.0.weight",
        "conv_1.sk.weight", "residual_layer.0.residual_layer.0.layer.0.fn.0.weight", "body.0.body.0.body.0.weight",
        "unet1.conv1.conv.0.weight", "gblocks.0.weight",
    )  # fmt: skip
    inner = {_unwrapped(name): info for name, info in header.tensors.items()}
    if any(mark in inner for mark in marks):
        return True
    first, slope = inner.get("body.0.weight"), inner.get("body.1.weight")  # a row of convolutions with slopes between
    return first is not None and slope is not None and (len(first.shape), len(slope.shape)) == (4, 1)


def _unwrapped(name: str) -> str:
    wrapper = next((each for each in _WRAPPERS if name.startswith(each)), "")
    return name.removeprefix(wrapper)


def _is_latent_upscaler(header: Header) -> bool:
    return {"initial_conv.weight", "post_upsample_res_blocks.0.conv1.weight"} <= set(header.tensors)


def _is_face_restorer(header: Header) -> bool:
    names = {_unwrapped(name) for name in header.tensors}
    gfpgan = {"stylegan_decoder.style_mlp.1.weight"}
    return gfpgan <= names or {"position_emb", "quantize.embedding.weight"} <= names  # the second CodeFormer's


def _looks_at_pictures(header: Header) -> bool:
    marks = (
        "mask_decoder.iou_token.weight", "sam_mask_decoder.iou_token.weight", "model.0.conv.weight",
        "detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight", "model.model.0.conv.weight",
        "squeeze_module.0.conv_in.weight", "bb.patch_embed.proj.weight", "depth_head.projects.0.weight",
        "backbone.embeddings.cls_token", "vision_tower.convs.0.proj.weight", "backbone.0.patch_embed.proj.weight",
        "visual_encoder.patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight", "concept_embeds",
        "v.patch_embd.weight",
    )  # fmt: skip
    return any(mark in header.tensors for mark in marks)


def _is_preview_decoder(header: Header) -> bool:
    marks = (
        {"decoder.layers.1.weight"},
        {"decoder.layers.0.weight", "encoder.layers.0.weight"},
        {"1.weight", "3.conv.0.weight"},
        {"0.weight", "1.conv.0.weight"},
        {"taesd_decoder.1.weight"},
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
latent_upscaler = _few_tensors("latent_upscaler", "latent upscaler of LTX-Video", "", _is_latent_upscaler)
face_restorer = _few_tensors("face_restorer", "face restorer", "", _is_face_restorer)
analyser = _few_tensors("analyser", "model that looks at pictures and makes none", "", _looks_at_pictures)
