"""Our own pictures, by the chunk that carries the plan; what is shown is the classic text beside it."""

from __future__ import annotations

from modules.core.metadata import Reading, Texts, parsed_object, plain, reader, taken_apart


@reader("inferenz", label="Inferenz", rank=10)
def inferenz(texts: Texts) -> Reading | None:
    if "inferenz" not in texts:
        return None
    values = parsed_object(texts["inferenz"], "The chunk that carries the plan")
    engine = values.get("engine")
    version = plain(engine.get("version")) if isinstance(engine, dict) else ""
    text = texts.get("parameters", "").strip()
    return Reading(program=f"Inferenz {version}".strip(), info=taken_apart(text), text=text)
