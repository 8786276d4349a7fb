"""What a checkpoint says of its own best settings: JSON under the metadata key `inferenz.defaults`.

    {"width": 512, "height": 768, "steps": 30, "cfg_scale": 5, "sampler": "Euler a", "schedule": "Karras",
     "clip_skip": 2}

Each key may be left out. A text that is not right as a whole is set aside as a whole: half of it would not be what its
author tried out.
"""

from __future__ import annotations

import json
import logging
from dataclasses import fields, replace

from modules.core.checkpoint import Defaults, Header
from modules.core.errors import RequestError
from modules.core.generation import parse_request

KEY = "inferenz.defaults"

log = logging.getLogger(__name__)


def told_defaults(header: Header, defaults: Defaults) -> Defaults:
    """`defaults` with what the file says in their place; the log says why where that cannot be used.

    Sampler and schedule are taken as they are written: whether there are such is not known here.
    """
    text = header.metadata.get(KEY)
    if not text:
        return defaults
    try:
        return _parse(text, defaults)
    except (ValueError, RecursionError, RequestError) as error:
        log.warning("%s: its own defaults (%s) are set aside: %s", header.path.name, KEY, error)
        return defaults


def _parse(text: str, defaults: Defaults) -> Defaults:
    values = json.loads(text)
    known = {field.name for field in fields(Defaults)}
    if not isinstance(values, dict):
        raise RequestError(KEY, "is not a JSON object", accepted='an object such as {"steps": 30, "cfg_scale": 5}')
    if unknown := sorted(set(values) - known):
        raise RequestError(unknown[0][:80], "there is no such default", accepted=", ".join(sorted(known)))
    request = parse_request(values)  # the same bounds as for what people ask for
    return replace(defaults, **{name: value for name in values if (value := getattr(request, name)) is not None})
