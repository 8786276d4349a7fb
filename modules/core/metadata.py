"""What pictures of other programs say: the description of a reader, and what all of them share.

A reader is a function from a picture's texts (PNG keyword, or EXIF as `imaging.pictures` names it -> text) to a
`Reading`, to None where the texts are not its program's, or it raises `MetadataError` where they are and are broken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modules.core.errors import MetadataError
from modules.core.infotext import MAX_CHARACTERS, Infotext, join_infotext, read_infotext
from modules.core.infotext_fields import number

Texts = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a picture was made, in AUTOMATIC1111's words. program: who wrote it, with its version where it says so.

    notes: what the texts say and an infotext does not, as sentences. text: AUTOMATIC1111's text, as it was written
    where a program writes that format, else made from `info`.
    """

    program: str
    info: Infotext
    text: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The description of a reader. rank: who is asked first; a program that writes another's format beside its own
    comes before that one."""

    name: str
    label: str
    read: Callable[[Texts], Reading | None]
    rank: int = 1000


def reader(name: str, *, label: str, rank: int = 1000) -> Callable[[Callable[[Texts], Reading | None]], Reader]:
    """Mark a function as a reader."""

    def describe(read: Callable[[Texts], Reading | None]) -> Reader:
        return Reader(name=name, label=label, read=read, rank=rank)

    return describe


def parsed(text: str, what: str) -> Any:
    """JSON of untrusted origin. Raises MetadataError, whose sentence begins with `what`, for all that is none."""
    _refuse_long(text, what)
    try:
        return json.loads(text)
    except RecursionError:
        raise MetadataError(f"{what} is nested too deeply to be read.") from None
    except ValueError as error:
        raise MetadataError(f"{what} is not readable: {str(error)[:200]}.") from None


def taken_apart(text: str) -> Infotext:
    """A text in AUTOMATIC1111's format. Raises MetadataError where it is too long for one."""
    _refuse_long(text, "The parameters text")
    return read_infotext(text)


def parsed_object(text: str, what: str) -> dict[str, Any]:
    """A JSON object. Raises MetadataError for anything else."""
    value = parsed(text, what)
    if not isinstance(value, dict):
        raise MetadataError(f"{what} is not a JSON object.")
    return value


@dataclass
class Fields:
    """Gathers an infotext's fields in AUTOMATIC1111's order. Values that are not there, or no text or number, are
    left out."""

    values: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: object) -> None:
        if (text := plain(value)) and name not in self.values:
            self.values[name] = text

    def put_size(self, width: object, height: object) -> None:
        if plain(width) and plain(height):
            self.values["Size"] = f"{plain(width)}x{plain(height)}"

    def put_sampling(self, sampler: object, schedule: object = None) -> None:
        """Names as k-diffusion's users write them, as AUTOMATIC1111's labels."""
        label, own = sampler_label(plain(sampler))
        self.put("Sampler", label)
        self.put("Schedule type", schedule_label(plain(schedule)) or own)

    def sorted(self) -> dict[str, str]:
        known = {name: place for place, name in enumerate(_ORDER)}
        return dict(sorted(self.values.items(), key=lambda item: known.get(item[0], len(known))))


def reading(program: str, prompt: object, negative: object, fields: Fields, *notes: str) -> Reading:
    """A reading of a program that does not write infotext."""
    info = Infotext(prompt=_words(prompt), negative_prompt=_words(negative), fields=fields.sorted())
    return Reading(program=program, info=info, text=join_infotext(info), notes=notes)


def plain(value: object) -> str:
    """A JSON value as a field's text; "" for what is neither text nor number."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float):
        return number(value) if math.isfinite(value) else ""
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 64 else ""
    return value.strip() if isinstance(value, str) else ""


def model_name(value: object) -> str:
    """A model's name from its file's, whatever system's folders stand before it."""
    name = plain(value).replace("\\", "/").rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    return stem if dot and ending.lower() in {"safetensors", "ckpt", "pt", "pth", "bin", "gguf", "sft"} else name


def sampler_label(name: str) -> tuple[str, str]:
    """AUTOMATIC1111's label of a sampler as k-diffusion names it, and the schedule's where the name says one."""
    known = name.lower().removeprefix("k_").removesuffix("_gpu").replace("_cfg_pp", "")
    if known in _SAMPLERS:
        return _SAMPLERS[known], ""
    for ending, schedule in (("_ka", "Karras"), ("_k", "Karras"), ("_exp", "Exponential")):
        if known.endswith(ending) and known.removesuffix(ending) in _SAMPLERS:
            return _SAMPLERS[known.removesuffix(ending)], schedule
    return name, ""


def schedule_label(name: str) -> str:
    """AUTOMATIC1111's label of a schedule; a name that it does not have stays as it is."""
    return _SCHEDULES.get(name.lower(), name)


def _refuse_long(text: str, what: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise MetadataError(f"{what} is longer than {MAX_CHARACTERS >> 20} million characters and is not read.")


def _words(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


_ORDER = (
    "Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "VAE", "Variation seed",
    "Variation seed strength", "Denoising strength", "Clip skip", "RNG",
)  # fmt: skip
_SAMPLERS = {
    "euler": "Euler", "euler_ancestral": "Euler a", "euler_a": "Euler a", "heun": "Heun", "heunpp2": "HeunPP2",
    "lms": "LMS", "dpm_2": "DPM2", "dpm_2_ancestral": "DPM2 a", "dpm2": "DPM2", "dpm_2_a": "DPM2 a",
    "dpm_fast": "DPM fast", "dpm_adaptive": "DPM adaptive", "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_2s": "DPM++ 2S a", "dpmpp_2s_a": "DPM++ 2S a", "dpmpp_sde": "DPM++ SDE", "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun", "dpmpp_3m_sde": "DPM++ 3M SDE", "ddpm": "DDPM", "lcm": "LCM",
    "ipndm": "IPNDM", "ipndm_v": "IPNDM_V", "deis": "DEIS", "ddim": "DDIM", "plms": "PLMS", "pndm": "PLMS",
    "uni_pc": "UniPC", "unipc": "UniPC", "tcd": "TCD", "restart": "Restart", "er_sde": "ER-SDE",
    "sa_solver": "SA-Solver",
}  # fmt: skip
_SCHEDULES = {
    "karras": "Karras", "exponential": "Exponential", "polyexponential": "Polyexponential", "normal": "Normal",
    "simple": "Simple", "sgm_uniform": "SGM Uniform", "ddim_uniform": "DDIM", "beta": "Beta",
    "kl_optimal": "KL Optimal", "turbo": "Turbo", "align_your_steps": "Align Your Steps",
    "ays": "Align Your Steps", "native": "", "none": "",
}  # fmt: skip
