"""Which of diffusers' pipelines are of families that are loaded here; all others go through the general adapter."""

from __future__ import annotations

import re

from modules.core.checkpoint import Header

_OURS = re.compile(
    r"(StableDiffusion(XL|3)?(Img2Img|Inpaint|InstructPix2Pix)?|LatentConsistencyModel(Img2Img)?"
    r"|Flux(Img2Img|Inpaint|Fill|Kontext|KontextInpaint|Control|ControlImg2Img|ControlInpaint)?"
    r"|(Chroma|ZImage)(Img2Img|Inpaint)?"
    r"|QwenImage(Img2Img|Inpaint|Edit|EditInpaint|EditPlus|Layered)?)Pipeline"
)


def pipeline(header: Header) -> str:
    """The class that a folder's model_index.json names; "" for a single file."""
    return str(header.configs.get("model_index", {}).get("_class_name", ""))


def may_be_ours(header: Header) -> bool:
    """Whether a header is of a single file, or of a folder whose pipeline one of the families here computes."""
    return not header.configs or _OURS.fullmatch(pipeline(header)) is not None
