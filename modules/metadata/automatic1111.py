"""AUTOMATIC1111's own text, and that of every program that writes it without saying who it is."""

from __future__ import annotations

from modules.core.metadata import Reading, Texts, reader, taken_apart


@reader("automatic1111", label="AUTOMATIC1111", rank=900)
def automatic1111(texts: Texts) -> Reading | None:
    """Any `parameters` text that is no JSON; without a parameters line it is a prompt alone, as in AUTOMATIC1111."""
    text = texts.get("parameters", "").strip()
    if not text or (text.startswith("{") and text.endswith("}")):
        return None
    info = taken_apart(text)
    version = info.fields.get("Version", "")
    own = version.startswith("v") and version[1:2].isdigit()
    return Reading(program=f"AUTOMATIC1111 {version}" if own else "AUTOMATIC1111's format", info=info, text=text)
