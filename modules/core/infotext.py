"""AUTOMATIC1111's parameters text, written and read (text only; where it is stored is `modules.imaging`'s part).

    prompt, any number of lines
    Negative prompt: text, any number of lines          (left out where empty)
    Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...

The format cannot carry everything: lines lose the blanks at their ends, and a prompt line that begins with "Negative
prompt:" is read as the negative prompt. Our own chunk beside it carries the plan without loss.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modules.core.generation import GenerationPlan

NEGATIVE = "Negative prompt:"
# A value is quoted if it holds a comma, a line break or a colon. The name is bounded so that a prompt of one very long
# line is read in linear time.
_FIELD = re.compile(r'(\w[\w \-/]{1,80}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_OPTION_LABELS: Mapping[str, str] = {
    "eta": "Eta", "s_churn": "Sigma churn", "s_tmin": "Sigma tmin", "s_tmax": "Sigma tmax", "s_noise": "Sigma noise",
}  # fmt: skip
_OLD_SCHEDULES = ("Karras", "Exponential", "Polyexponential", "SGM Uniform", "Uniform", "Simple", "Normal", "Beta")


@dataclass(frozen=True, kw_only=True)
class Infotext:
    """A parameters text, taken apart. fields: name as written -> value, unquoted, in the text's order."""

    prompt: str = ""
    negative_prompt: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class InfotextLabels:
    """What infotext says and the plan does not: labels as AUTOMATIC1111 shows them, hashes, the program's version.

    schedule "Automatic" is written as such. model_hash, vae_hash: the first ten digits of the SHA-256, or "" where it
    is not known yet (the field is left out). vae: the VAE's file name, "" for the checkpoint's own. options: the
    sampler's that are worth saying; None for all that the plan has.
    """

    sampler: str
    schedule: str
    model: str
    model_hash: str = ""
    vae: str = ""
    vae_hash: str = ""
    version: str = ""
    options: Mapping[str, float] | None = None


def write_infotext(plan: GenerationPlan, labels: InfotextLabels, *, seed: int) -> str:
    """The parameters text of one picture of `plan`, made with `seed`, in AUTOMATIC1111's order and quoting."""
    options = plan.options if labels.options is None else labels.options
    values: dict[str, Any] = {
        "Steps": plan.steps,
        "Sampler": labels.sampler,
        "Schedule type": labels.schedule,
        "CFG scale": _number(plan.cfg_scale),
        "Seed": seed,
        "Size": f"{plan.width}x{plan.height}",
        "Model hash": labels.model_hash,
        "Model": labels.model,
        "VAE hash": labels.vae_hash,
        "VAE": labels.vae,
        "Clip skip": plan.clip_skip if plan.clip_skip > 1 else "",
        "RNG": plan.noise_source,
        "Emphasis": plan.emphasis if plan.emphasis != "Original" else "",
        **{_OPTION_LABELS.get(name, name): _number(value) for name, value in options.items()},
        "Version": labels.version,
    }
    fields = ", ".join(f"{name}: {quote(str(value))}" for name, value in values.items() if value != "")
    negative = f"\n{NEGATIVE} {plan.negative_prompt}" if plan.negative_prompt else ""
    return f"{plan.prompt}{negative}\n{fields}".strip()


def read_infotext(text: str) -> Infotext:
    """Take a parameters text apart as AUTOMATIC1111 does; any text is accepted.

    The last line holds the parameters if it has at least three `name: value`; lines from the first "Negative prompt:"
    on are the negative prompt.
    """
    *lines, last = text.strip().split("\n")
    found = _FIELD.findall(last)
    if len(found) < 3:
        lines.append(last)
        found = []
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in (line.strip() for line in lines):
        body = line
        if line.startswith(NEGATIVE):
            current, body = negative, line.removeprefix(NEGATIVE).strip()
        if body or current:  # empty lines before the first words are not part of them
            current.append(body)
    fields = {name: unquote(value) for name, value in found}
    return Infotext(prompt="\n".join(prompt), negative_prompt="\n".join(negative), fields=fields)


def form_values(info: Infotext) -> dict[str, Any]:
    """What the text says about a request's fields, for filling a form; what is missing or unreadable is left out.

    Keys are `GenerationRequest`'s; sampler and schedule are labels as written, with names such as "DPM++ 2M Karras"
    taken apart; checkpoint is the model's hash, or its name where there is no hash.
    """
    fields = info.fields
    values: dict[str, Any] = {"prompt": info.prompt, "negative_prompt": info.negative_prompt}
    for name, label in (("steps", "Steps"), ("seed", "Seed"), ("clip_skip", "Clip skip")):
        if re.fullmatch(r"\d{1,19}", fields.get(label, "")):
            values[name] = int(fields[label])
    if re.fullmatch(r"\d{1,4}(\.\d{1,12})?", fields.get("CFG scale", "")):
        values["cfg_scale"] = float(fields["CFG scale"])
    if size := re.fullmatch(r"(\d{1,5})x(\d{1,5})", fields.get("Size", "")):
        values["width"], values["height"] = int(size[1]), int(size[2])
    if sampler := fields.get("Sampler"):
        values["sampler"], old_schedule = _split_sampler(sampler)
        if schedule := fields.get("Schedule type") or old_schedule:
            values["schedule"] = schedule
    if checkpoint := fields.get("Model hash") or fields.get("Model"):
        values["checkpoint"] = checkpoint
    if vae := fields.get("VAE"):
        values["vae"] = vae
    return values


def quote(text: str) -> str:
    """The value as it stands in the parameters line: JSON-quoted if it holds a comma, a line break or a colon."""
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ",\n:") else text


def unquote(text: str) -> str:
    """The inverse of `quote`; a value that only looks quoted stays as it is."""
    if len(text) < 2 or not (text[0] == text[-1] == '"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def _split_sampler(label: str) -> tuple[str, str]:
    for schedule in _OLD_SCHEDULES:
        if label.endswith(f" {schedule}"):
            return label.removesuffix(f" {schedule}"), schedule
    return label, ""


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
