"""What a picture's file says of how it was made: written into it, and read back out of it.

Two texts (`imaging.formats` says where they stand): `parameters`, AUTOMATIC1111's, and `inferenz`, JSON that carries
the plan without loss:

    {"schema": 1, "plan": plan_json of this picture alone, "job": id, "index": its place in the job,
     "created": seconds since 1970, "engine": {"device", "dtype", "seconds", "partial", "version"},
     "file": {"kind": "jpg", "quality": 90}}          (of formats that lose something)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modules.core.errors import RequestError
from modules.core.generation import MAX_PROMPT_CHARACTERS, GenerationPlan, drawn_by, parse_plan, plan_json
from modules.core.infotext import InfotextLabels, form_values, read_infotext, write_infotext
from modules.imaging.formats import SaveFormat
from modules.imaging.pictures import picture_facts

CHUNK = "inferenz"
SCHEMA = 1
HASH_DIGITS = 10  # AutoV2
MOST_INFOTEXT = 300_000  # characters that the history keeps: two of the longest prompts, and parameters


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """How a picture was made, beside its plan. sampler, schedule: labels as AUTOMATIC1111 shows them.

    seconds: from the picture's start to its decoding. partial: interrupted before its last step. vae_hash: short hash
    of a separate VAE, where it is known. version: of this program. options: the sampler's that are not at their
    default, None where that is not known. ensd: whether the eta noise seed delta is worth saying.
    """

    sampler: str
    schedule: str
    device: str = ""
    dtype: str = ""
    seconds: float = 0.0
    partial: bool = False
    vae_hash: str | None = None
    version: str = ""
    options: Mapping[str, float] | None = None
    schedule_options: Mapping[str, float] | None = None
    ensd: bool = True


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the history keeps of one file, read from the file alone. created: None where the file does not say."""

    width: int
    height: int
    created: float | None = None
    seed: int | None = None
    prompt: str = ""
    negative_prompt: str = ""
    checkpoint: str = ""
    sampler: str = ""
    steps: int = 0
    infotext: str = ""
    plan: Mapping[str, Any] | None = None
    job: str = ""
    index: int = 0

    @property
    def says_nothing(self) -> bool:
        """Whether the file carries neither our chunk nor the classic text."""
        return not self.infotext and self.plan is None


def _as_drawn(plan: GenerationPlan, device: str) -> GenerationPlan:
    """The plan with the noise source whose numbers it really had, so that it gives the same picture elsewhere."""
    return replace(plan, noise_source=drawn_by(plan.noise_source, device)) if device else plan


def _without_folders(plan: GenerationPlan, model_hash: str | None) -> GenerationPlan:
    """The plan as it may leave this machine: model files by name and hash, not by where they lie."""
    sha256 = plan.checkpoint.sha256 or (model_hash if model_hash and len(model_hash) > HASH_DIGITS else None)
    checkpoint = replace(plan.checkpoint, path=Path(plan.checkpoint.path).name, sha256=sha256)
    parts: dict[str, Any] = {name: replace(file, path=Path(file.path).name) for name, file in plan.model.separate.named}
    return replace(plan, checkpoint=checkpoint, **parts)


def picture_texts(
    plan: GenerationPlan,
    index: int,
    job: str,
    *,
    model_hash: str | None,
    facts: EngineFacts,
    created: float,
    saved: SaveFormat | None = None,
) -> dict[str, str]:
    """The texts of picture `index` of a job, keyword -> text. model_hash: short or whole. saved: how its file is."""
    alone = _as_drawn(plan.only(index), facts.device)
    labels = InfotextLabels(
        sampler=facts.sampler,
        schedule=facts.schedule,
        model=plan.checkpoint.name,
        model_hash=(model_hash or plan.checkpoint.sha256 or "")[:HASH_DIGITS],
        vae=Path(plan.vae.path).name if plan.vae else "",
        vae_hash=(facts.vae_hash or plan.vae.sha256 or "")[:HASH_DIGITS] if plan.vae else "",
        version=facts.version,
        options=facts.options,
        schedule_options=facts.schedule_options,
        ensd=facts.ensd,
    )
    engine = {"device": facts.device, "dtype": facts.dtype, "seconds": round(facts.seconds, 3)}
    lossless = {
        "schema": SCHEMA,
        "plan": plan_json(_without_folders(alone, model_hash)),
        "job": job,
        "index": index,
        "created": created,
        "engine": {**engine, "partial": facts.partial, "version": facts.version},
    }
    if saved is not None and saved.kind != "png":
        lossless["file"] = {"kind": saved.kind, "quality": saved.quality}
    return {
        "parameters": write_infotext(alone, labels, seed=plan.seeds[index]),
        CHUNK: json.dumps(lossless, separators=(",", ":")),  # ASCII, so that it is always a plain tEXt chunk
    }


def read_contents(path: Path) -> Contents:
    """Everything the history needs of a picture file: from our chunk, else from the classic text, else its size alone.

    Raises StorageError where the file is not a whole picture.
    """
    facts = picture_facts(path)
    return contents(facts.width, facts.height, facts.texts)


def contents(width: int, height: int, texts: Mapping[str, str]) -> Contents:
    """`read_contents` of texts already read; any text is accepted."""
    infotext = texts.get("parameters", "")
    info = read_infotext(infotext)
    form = form_values(info)
    classic = {
        "infotext": infotext[:MOST_INFOTEXT],
        "prompt": info.prompt[:MAX_PROMPT_CHARACTERS],
        "negative_prompt": info.negative_prompt[:MAX_PROMPT_CHARACTERS],
        "checkpoint": info.fields.get("Model", ""),
        "sampler": info.fields.get("Sampler", ""),
        "steps": form.get("steps", 0),
        "seed": form.get("seed"),
    }
    return Contents(width=width, height=height, **(classic | _lossless(texts.get(CHUNK, ""))))


def _lossless(text: str) -> dict[str, Any]:
    """What our chunk says; empty where there is none or it is not one of ours after all."""
    if not text:
        return {}
    try:
        values = json.loads(text)
        json.dumps(values, ensure_ascii=False).encode()  # fails on halves of surrogate pairs, which no database takes
        plan = parse_plan(values["plan"])
        job, index, created = str(values["job"]), int(values["index"]), float(values["created"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, RequestError):
        return {}
    return {
        "prompt": plan.prompt,
        "negative_prompt": plan.negative_prompt,
        "checkpoint": plan.checkpoint.name,
        "steps": plan.steps,
        "seed": plan.seeds[0],
        "plan": plan_json(plan),
        "job": job[:200],
        "index": max(0, min(index, 2**31)),
        "created": created if 0 <= created < 1e11 else None,
    }
