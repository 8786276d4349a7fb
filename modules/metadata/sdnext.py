"""SD.Next: AUTOMATIC1111's text with other fields, among them the program's name."""

from __future__ import annotations

from modules.core.infotext import Infotext
from modules.core.metadata import Reading, Texts, model_name, reader, taken_apart

_OURS = {"CFG Scale": "CFG scale", "Guidance": "CFG scale", "Sampler name": "Sampler"}  # its name -> AUTOMATIC1111's


@reader("sdnext", label="SD.Next", rank=110)
def sdnext(texts: Texts) -> Reading | None:
    """Known by `App: SD.Next`, and older pictures by `Backend` and `Operations`, which no other program writes."""
    text = texts.get("parameters", "").strip()
    if not any(sign in text for sign in ("SD.Next", "SDNext", "Backend:", "Operations:")):
        return None
    info = taken_apart(text)
    app = info.fields.get("App", "").replace(" ", "").lower()
    if app not in ("sd.next", "sdnext") and not {"Backend", "Operations"} & info.fields.keys():
        return None
    fields = {_OURS.get(name, name): value for name, value in info.fields.items()}
    if "Model" in fields:
        fields["Model"] = model_name(fields["Model"])
    version = fields.get("Version", "")
    info = Infotext(prompt=info.prompt, negative_prompt=info.negative_prompt, fields=fields)
    return Reading(program=f"SD.Next {version}".strip(), info=info, text=text)
