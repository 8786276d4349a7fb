"""NovelAI: `Software` names it, `Comment` is JSON with the settings, `Description` the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.core.metadata import Fields, Reading, Texts, parsed_object, plain, reader, reading


@reader("novelai", label="NovelAI", rank=50)
def novelai(texts: Texts) -> Reading | None:
    software = texts.get("Software", "") or texts.get("exif:Software", "")
    if "novelai" not in software.lower() or not texts.get("Comment"):
        return None
    values = parsed_object(texts["Comment"], "NovelAI's comment")
    fields = Fields()
    fields.put("Steps", values.get("steps"))
    fields.put_sampling(values.get("sampler"), values.get("noise_schedule"))
    fields.put("CFG scale", values.get("scale"))
    fields.put("Seed", values.get("seed"))
    fields.put_size(values.get("width"), values.get("height"))
    fields.put("Denoising strength", values.get("strength"))
    fields.put("Model", texts.get("Source"))
    prompt = plain(values.get("prompt")) or _caption(values, "v4_prompt") or texts.get("Description", "")
    negative = plain(values.get("uc")) or _caption(values, "v4_negative_prompt")
    notes = []
    if any(sign in prompt for sign in "{}"):
        notes.append("In NovelAI {braces} make a word weigh 1.05 times as much; here they choose among words.")
    return reading("NovelAI", prompt, negative, fields, *notes)


def _caption(values: Mapping[str, Any], name: str) -> str:
    """The base caption of the newer models' structured prompt."""
    caption = part.get("caption") if isinstance(part := values.get(name), dict) else None
    return plain(caption.get("base_caption")) if isinstance(caption, dict) else ""
