"""Models of all other kinds: as folders in diffusers' layout they run through a general adapter, whatever they are.

A single file of such a model is recognised by its tensors' names and named, and not loadable: diffusers keeps the
pipeline's parts and their configuration in the folder.
"""

from __future__ import annotations

import re

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import CorruptCheckpoint, NotAMatch
from modules.core.family import Reads, family, foreign
from modules.families.layouts.denoisers import denoiser_kind
from modules.families.layouts.labels import OTHERS, PICTURES, VIDEOS
from modules.families.layouts.parts import main_dtype
from modules.families.layouts.pipeline_defaults import pipeline_defaults
from modules.families.layouts.pipelines import does_instead, pipeline
from modules.families.layouts.unets import unet_of

LABEL = "diffusers model"
# Those of which diffusers has no ordinary folder
_MODULAR = "runs from a folder of diffusers' modular layout (with modular_model_index.json) only"
_NO_FOLDER = {
    "anima": _MODULAR,
    "flux3": _MODULAR,
    **dict.fromkeys(
        ("omnigen2", "newbie", "boogu", "lens", "hidream_o1", "hunyuan_image_3", "pixeldit"),
        "cannot be run here: diffusers has no pipeline for it",
    ),
    "dit": "makes pictures of numbered things, not of words",
}


@family("diffusers", label=LABEL, rank=70, predictions=("flow", "epsilon", "v"), reads=Reads(by=""))
def diffusers(header: Header) -> ModelInfo:
    """Describe a folder in diffusers' layout, or name a single file that would have to be one.

    Raises NotAMatch, or CorruptCheckpoint for a folder that does not say what it is.
    """
    if header.configs:
        return _folder(header)
    kind = denoiser_kind(header)
    if kind in PICTURES:
        label = PICTURES[kind]
        why = _NO_FOLDER.get(kind, "runs from a folder in diffusers' layout (with model_index.json) only")
        problem = f"this is {label}, which {why}."
        return foreign(header, "diffusers", label, problem, variant=kind)
    raise NotAMatch(f"{header.file_name} is no folder in diffusers' layout.")


@family("video", label="Video model", rank=75)
def video(header: Header) -> ModelInfo:
    """Name models of videos, which are not made here."""
    kind = denoiser_kind(header)
    if kind not in VIDEOS:
        raise NotAMatch(f"{header.file_name} is no model of videos.")
    return foreign(header, "video", VIDEOS[kind], f"this is {VIDEOS[kind]}, which makes videos.", variant=kind)


@family("other", label="Model of another kind", rank=76)
def other(header: Header) -> ModelInfo:
    """Name models that make no pictures at all, or only half of one."""
    kind = denoiser_kind(header)
    if kind not in OTHERS:
        raise NotAMatch(f"{header.file_name} is no model of sounds or shapes.")
    label, does = OTHERS[kind]
    return foreign(header, "other", label, f"this is {label}, which {does}.", variant=kind)


@family("unet", label="UNet", rank=90)
def other_unet(header: Header) -> ModelInfo:
    """Name a UNet that is of no family known here. Asked after all that have one."""
    unet = unet_of(header)
    if unet is None:
        raise NotAMatch(f"{header.file_name} has no UNet.")
    known = "Stable Diffusion 1 has 768, 2 has 1,024, XL 2,048 and its refiner 1,280"
    what = f"texts {unet.context:,} wide ({known})" if unet.context else "no texts"
    return foreign(header, "unet", "UNet", f"this is a UNet of no family that is known here: it attends to {what}.")


def _folder(header: Header) -> ModelInfo:
    name = pipeline(header)
    if not name.endswith("Pipeline"):
        raise CorruptCheckpoint(
            f"{header.file_name} does not say which pipeline it is: its model_index.json is damaged."
        )
    label = _label(name)
    instead = does_instead(name)
    problem = f"this is {label}, which {instead}." if instead else ""
    scheduler = {key: value for key, value in header.configs.get("scheduler", {}).items() if not key.startswith("_")}
    told = str(scheduler.get("prediction_type", ""))
    flow = "shift" in scheduler or told == "flow_prediction"
    prefixes = {key.split(".", 1)[0] for key in header.tensors}
    return ModelInfo(
        name=header.stem,
        path=str(header.path),
        family="diffusers",
        label=label,
        supported=not problem,
        problem=problem,
        prediction="flow" if flow else "v" if told == "v_prediction" else "epsilon",
        dtype=main_dtype(header),
        layout="diffusers",
        components=tuple(part for part in header.configs if part in prefixes),
        size=header.size,
        mtime_ns=header.mtime_ns,
        defaults=pipeline_defaults(header),
        config={"scheduler": scheduler} if scheduler else {},
        metadata=header.metadata,
    )


def _label(name: str) -> str:
    """ "Lumina2Pipeline" -> "Lumina 2": a class's name as words."""
    stem = re.sub(r"(Text2Img|TextToImage|Img2Img|Inpaint|Modular)?Pipeline$", "", name)
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Z])", " ", stem)
