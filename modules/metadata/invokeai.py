"""InvokeAI: `invokeai_metadata` since 3.0, `sd-metadata` before it, and `Dream`, the command line of its first days."""

from __future__ import annotations

import re
import shlex
from typing import Any

from modules.core.errors import MetadataError
from modules.core.metadata import Fields, Reading, Texts, model_name, parsed_object, plain, reader, reading

_NEGATIVE = re.compile(r"\[([^\[\]]*)\]")  # in prompts before 3.0
_SWITCHES = {"-s": "Steps", "-S": "Seed", "-C": "CFG scale", "--steps": "Steps", "--seed": "Seed",
             "--cfg_scale": "CFG scale", "-f": "Denoising strength"}  # fmt: skip


@reader("invokeai", label="InvokeAI", rank=60)
def invokeai(texts: Texts) -> Reading | None:
    if text := texts.get("invokeai_metadata"):
        return _current(parsed_object(text, "InvokeAI's metadata"))
    if text := texts.get("sd-metadata"):
        return _former(parsed_object(text, "InvokeAI's metadata"))
    return _first(texts["Dream"]) if texts.get("Dream") else None


def _current(values: dict[str, Any]) -> Reading:
    fields = Fields()
    fields.put("Steps", values.get("steps"))
    fields.put_sampling(values.get("scheduler"))
    fields.put("CFG scale", values.get("cfg_scale"))
    fields.put("Seed", values.get("seed"))
    fields.put_size(values.get("width"), values.get("height"))
    model = values.get("model")
    if isinstance(model, dict):
        fields.put("Model", model_name(model.get("name") or model.get("model_name")))
    vae = values.get("vae")
    if isinstance(vae, dict):
        fields.put("VAE", vae.get("name") or vae.get("model_name"))
    fields.put("Denoising strength", values.get("strength"))
    skipped = values.get("clip_skip")  # layers left out; AUTOMATIC1111 counts the last one as 1
    if isinstance(skipped, int) and 0 < skipped < 12:
        fields.put("Clip skip", skipped + 1)
    version = plain(values.get("app_version"))
    return reading(f"InvokeAI {version}".strip(), values.get("positive_prompt"), values.get("negative_prompt"), fields)


def _former(values: dict[str, Any]) -> Reading:
    image = values.get("image")
    if not isinstance(image, dict):
        raise MetadataError("InvokeAI's metadata says nothing of the picture.")
    fields = Fields()
    fields.put("Steps", image.get("steps"))
    fields.put_sampling(image.get("sampler"))
    fields.put("CFG scale", image.get("cfg_scale"))
    fields.put("Seed", image.get("seed"))
    fields.put_size(image.get("width"), image.get("height"))
    fields.put("Model", model_name(values.get("model_weights")))
    prompts = image.get("prompt")
    first = prompts[0] if isinstance(prompts, list) and prompts else prompts
    text = plain(first.get("prompt") if isinstance(first, dict) else first)
    version = plain(values.get("app_version"))
    return reading(f"InvokeAI {version}".strip(), *_parted(text), fields)


def _first(text: str) -> Reading:
    try:
        words = shlex.split(text[:100_000])
    except ValueError as error:
        raise MetadataError(f"InvokeAI's command is not readable: {error}.") from None
    fields, said = Fields(), dict[str, str]()
    prompt: list[str] = []
    for place, word in enumerate(words):
        glued = re.fullmatch(r"(-[sSCWHAf])(\S+)", word)
        if glued:
            said[glued[1]] = glued[2]
        elif word.startswith("-"):
            said[word] = words[place + 1] if place + 1 < len(words) else ""
        elif place == 0:
            prompt.append(word)
    for switch, name in _SWITCHES.items():
        fields.put(name, said.get(switch))
    fields.put_sampling(said.get("-A") or said.get("--sampler"))
    fields.put_size(said.get("-W") or said.get("--width"), said.get("-H") or said.get("--height"))
    return reading("InvokeAI", *_parted(" ".join(prompt)), fields)


def _parted(prompt: str) -> tuple[str, str]:
    """Prompt and negative prompt of one text, in which the negative parts stand in square brackets."""
    return " ".join(_NEGATIVE.sub(" ", prompt).split()), ", ".join(part.strip() for part in _NEGATIVE.findall(prompt))
