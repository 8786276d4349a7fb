"""Forge and its relatives: AUTOMATIC1111's text, with a version that begins with "f"."""

from __future__ import annotations

from modules.core.metadata import Reading, Texts, reader, taken_apart


@reader("forge", label="Forge", rank=100)
def forge(texts: Texts) -> Reading | None:
    text = texts.get("parameters", "").strip()
    if ": f" not in text:  # before the text is taken apart: most have no such version
        return None
    info = taken_apart(text)
    version = info.fields.get("Version", "")
    if version[:1] != "f" or not version[1:2].isdigit():
        return None
    return Reading(program=f"Forge {version}", info=info, text=text)
