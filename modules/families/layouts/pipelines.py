"""What diffusers' pipelines are by the names of their classes, which a folder's model_index.json tells.

Some are of families that are loaded here, all others that make pictures from text go through the general adapter.
"""

from __future__ import annotations

import re

from modules.core.checkpoint import Header

_OURS = re.compile(
    r"(StableDiffusion(XL|3)?(Img2Img|Inpaint|InstructPix2Pix)?|LatentConsistencyModel(Img2Img)?"
    r"|Flux(Img2Img|Inpaint|Fill|Kontext|KontextInpaint|Control|ControlImg2Img|ControlInpaint)?"
    r"|(Chroma|ZImage)(Img2Img|Inpaint)?"
    r"|QwenImage(Img2Img|Inpaint|Edit|EditInpaint|EditPlus|Layered)?)Pipeline"
)
# What is made -> names of those that make it. Each is searched for in turn
_OTHERS = {
    "makes videos": re.compile(
        r"Video|^(Wan|SkyReels|Mochi|Latte|LTX|Allegro|EasyAnimate|AnimateDiff|AnyFlow|ConsisID|Helios|Lucy|PIA"
        r"|ChronoEdit|HunyuanSkyreels|I2VGen|SanaWM|Cosmos(?!2TextToImage)|Kandinsky5.2V|Kandinsky6|MiniMaxH3|Echo)"
    ),
    "makes sounds": re.compile(r"Audio|Music|^AceStep"),
    "writes text": re.compile(r"^(LLaDA|DiffusionGemma)"),
    "makes shapes in space": re.compile(r"^ShapE"),
    "makes proteins": re.compile(r"^RFD"),
    "is one half of a model: its pictures are made by the other": re.compile(
        r"Prior(Emb2Emb)?Pipeline|Decoder|^Kandinsky(V22)?Pipeline"
    ),
    "changes pictures and makes none from text alone": re.compile(
        r"Img2Img|Inpaint|(?<!JoyImage)Edit(?!ing)|Upscale|SuperResolution|Control(?!l)|Adapter|Refiner|Depth2Img"
        r"|Pix2Pix|Variation|PaintByExample|RePaint|Redux|Marigold|VisualCloze|BlipDiffusion|5I2I|Fill|Layered"
    ),
}


def pipeline(header: Header) -> str:
    """The class that a folder's model_index.json names; "" for a single file."""
    return str(header.configs.get("model_index", {}).get("_class_name", ""))


def may_be_ours(header: Header) -> bool:
    """Whether a header is of a single file, or of a folder whose pipeline one of the families here computes."""
    return not header.configs or _OURS.fullmatch(pipeline(header)) is not None


def does_instead(name: str) -> str:
    """What a pipeline of this class does where it makes no pictures from text: "makes videos". Else ""."""
    return next((what for what, names in _OTHERS.items() if names.search(name)), "")
