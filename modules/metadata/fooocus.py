"""Fooocus: `fooocus_scheme` says whether `parameters` is JSON ("fooocus") or AUTOMATIC1111's text ("a1111")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modules.core.metadata import Fields, Reading, Texts, model_name, parsed_object, plain, reader, reading, taken_apart

_OWN = ('"base_model"', '"guidance_scale"', '"performance"')  # keys that no other program's JSON has together


@reader("fooocus", label="Fooocus", rank=30)
def fooocus(texts: Texts) -> Reading | None:
    text = texts.get("parameters", "").strip()
    if text.startswith("{"):
        return _own(text) if "fooocus_scheme" in texts or all(key in text for key in _OWN) else None
    if "Fooocus" not in text:
        return None
    info = taken_apart(text)
    version = info.fields.get("Version", "")
    if not version.startswith("Fooocus"):
        return None
    return Reading(program=version, info=info, text=text)


def _own(text: str) -> Reading:
    values = parsed_object(text, "Fooocus's text")
    fields = Fields()
    fields.put("Steps", values.get("steps"))
    fields.put_sampling(values.get("sampler"), values.get("scheduler"))
    fields.put("CFG scale", values.get("guidance_scale"))
    fields.put("Seed", values.get("seed"))
    if size := re.fullmatch(r"\(?\s*(\d{1,5})\s*[,x×*]\s*(\d{1,5})\s*\)?", plain(values.get("resolution"))):
        fields.put_size(size[1], size[2])
    fields.put("Model hash", values.get("base_model_hash"))
    fields.put("Model", model_name(values.get("base_model")))
    fields.put("VAE", None if plain(values.get("vae")).startswith("Default") else values.get("vae"))
    fields.put("Clip skip", values.get("clip_skip"))
    notes = _notes(values)
    # What it computed with, styles and expansion included, where it says so
    prompt = _joined(values.get("full_prompt")) or plain(values.get("prompt"))
    negative = _joined(values.get("full_negative_prompt")) or plain(values.get("negative_prompt"))
    tags = "".join(f" <lora:{name}:{weight}>" for name, weight in _loras(values))
    return reading(plain(values.get("version")) or "Fooocus", prompt + tags, negative, fields, *notes)


def _notes(values: Mapping[str, Any]) -> list[str]:
    styles = values.get("styles")
    if _joined(values.get("full_prompt")) or not styles or styles == "[]":
        return []
    return [f"Its styles are not part of the prompt here: {str(styles)[:400]}"]


def _joined(value: object) -> str:
    return ", ".join(filter(None, map(plain, value))) if isinstance(value, list) else plain(value)


def _loras(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Both spellings: a list of [name, weight, hash], and lora_combined_1: "name : weight"."""
    found = []
    listed = values.get("loras")
    for each in listed if isinstance(listed, list) else []:
        if isinstance(each, list) and len(each) >= 2:
            found.append((model_name(each[0]), plain(each[1])))
    for name, value in values.items():
        if name.startswith("lora_combined_") and " : " in plain(value):
            lora, _, weight = plain(value).rpartition(" : ")
            found.append((model_name(lora), weight.strip()))
    return [(name, weight) for name, weight in found if name and weight and name != "None"]
