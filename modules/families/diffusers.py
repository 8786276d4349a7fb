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
from modules.families.layouts.parts import main_dtype
from modules.families.layouts.pipeline_defaults import pipeline_defaults
from modules.families.layouts.pipelines import does_instead, pipeline
from modules.families.layouts.unets import unet_of

LABEL = "diffusers model"
# Kind of denoiser -> label, and what its folder's pipeline is called
_PICTURES = {
    "flux2": "Flux.2", "flux3": "Flux.3", "hunyuan_image": "HunyuanImage", "ovis_image": "Ovis-Image",
    "longcat_image": "LongCat-Image",
    "bria": "Bria or LongCat-Image", "auraflow": "AuraFlow", "qwen_image_2": "Qwen-Image 2",
    "glm_image": "GLM-Image", "cogview4": "CogView4", "hidream": "HiDream", "omnigen2": "OmniGen2",
    "lumina2": "Lumina Image 2", "lumina": "Lumina-Next", "krea2": "Krea 2", "anima": "Anima", "cosmos": "Cosmos",
    "pixart": "PixArt", "sana": "Sana", "hunyuandit": "HunyuanDiT", "kandinsky5": "Kandinsky 5",
    "kandinsky2": "Kandinsky 2", "cascade_b": "Stable Cascade (stage B)", "cascade_c": "Stable Cascade (stage C)",
    "kolors": "Kolors", "deepfloyd": "DeepFloyd IF", "kandinsky3": "Kandinsky 3", "dreamlite": "DreamLite",
    "joyimage": "JoyImage", "nucleus": "Nucleus-Image", "ernie_image": "Ernie-Image", "ideogram4": "Ideogram 4",
    "prx": "PRX", "dit": "DiT",
}  # fmt: skip
# Those of which diffusers has no ordinary folder
_MODULAR = "runs from a folder of diffusers' modular layout (with modular_model_index.json) only"
_NO_FOLDER = {
    "anima": _MODULAR,
    "flux3": _MODULAR,
    "omnigen2": "diffusers has no pipeline for",
    "dit": "makes pictures of numbered things, not of words",
}
_VIDEOS = {
    "wan": "Wan", "ltx": "LTX-Video", "hunyuan_video": "HunyuanVideo", "mochi": "Mochi", "cogvideo": "CogVideoX",
    "svd": "Stable Video Diffusion", "animatediff": "AnimateDiff", "motif_video": "Motif-Video",
    "sana_video": "Sana-Video",
    "minimax_h3": "MiniMax H3", "kandinsky6": "Kandinsky 6", "video_unet": "ModelScope or I2VGen",
}  # fmt: skip


@family("diffusers", label=LABEL, rank=70, predictions=("flow", "epsilon", "v"), reads=Reads(by=""))
def diffusers(header: Header) -> ModelInfo:
    """Describe a folder in diffusers' layout, or name a single file that would have to be one.

    Raises NotAMatch, or CorruptCheckpoint for a folder that does not say what it is.
    """
    if header.configs:
        return _folder(header)
    kind = denoiser_kind(header)
    if kind in _PICTURES:
        label = _PICTURES[kind]
        why = _NO_FOLDER.get(kind, "runs from a folder in diffusers' layout (with model_index.json) only")
        problem = f"this is {label}, which {why}."
        return foreign(header, "diffusers", label, problem, variant=kind)
    raise NotAMatch(f"{header.file_name} is no folder in diffusers' layout.")


@family("video", label="Video model", rank=75)
def video(header: Header) -> ModelInfo:
    """Name models of videos, which are not made here."""
    kind = denoiser_kind(header)
    if kind not in _VIDEOS:
        raise NotAMatch(f"{header.file_name} is no model of videos.")
    return foreign(header, "video", _VIDEOS[kind], f"this is {_VIDEOS[kind]}, which makes videos.", variant=kind)


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
