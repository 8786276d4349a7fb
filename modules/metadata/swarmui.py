"""SwarmUI: `parameters` is JSON with `sui_image_params`."""

from __future__ import annotations

from modules.core.metadata import Fields, Reading, Texts, model_name, parsed_object, plain, reader, reading


@reader("swarmui", label="SwarmUI", rank=40)
def swarmui(texts: Texts) -> Reading | None:
    text = texts.get("parameters", "").strip()
    if not text.startswith("{") or '"sui_image_params"' not in text:
        return None
    values = parsed_object(text, "SwarmUI's text").get("sui_image_params")
    if not isinstance(values, dict):
        return None
    fields = Fields()
    fields.put("Steps", values.get("steps"))
    # It names both only where they were chosen; else it computes with ComfyUI's first ones
    fields.put_sampling(values.get("sampler") or "euler", values.get("scheduler") or "normal")
    fields.put("CFG scale", values.get("cfgscale"))
    fields.put("Seed", values.get("seed"))
    fields.put_size(values.get("width"), values.get("height"))
    fields.put("Model", model_name(values.get("model")))
    fields.put("VAE", None if plain(values.get("vae")) in ("Automatic", "None") else values.get("vae"))
    fields.put("Variation seed", values.get("variationseed"))
    fields.put("Variation seed strength", values.get("variationseedstrength"))
    layer = values.get("clipstopatlayer")
    if isinstance(layer, int) and layer < -1:
        fields.put("Clip skip", -layer)
    version = plain(values.get("swarm_version"))
    return reading(f"SwarmUI {version}".strip(), values.get("prompt"), values.get("negativeprompt"), fields)
