"""Tags of further networks in a prompt: `<lora:name:0.8>`, `<hypernet:name:1>`, `<lora:name:te=0.5:unet=1>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_TAG = re.compile(r"<(\w+):([^<>]+)>")


@dataclass(frozen=True)
class NetworkTag:
    """One tag. kind: "lora", "hypernet" ...; values: what stands between its colons, the name first; named: te=0.5."""

    kind: str
    values: tuple[str, ...]
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The network's name; empty where there is none."""
        return self.values[0] if self.values else ""


def without_tags(text: str) -> str:
    """The text as the text encoder reads it: AUTOMATIC1111 takes tags out and leaves the blanks around them."""
    return _TAG.sub("", text)


def tags(text: str) -> tuple[NetworkTag, ...]:
    """The tags of a text, in their order."""
    return tuple(_tag(match) for match in _TAG.finditer(text))


def _tag(match: re.Match[str]) -> NetworkTag:
    values, named = [], {}
    for item in match[2].split(":"):
        name, equals, value = item.partition("=")
        if equals:
            named[name.strip()] = value.strip()
        else:
            values.append(item)
    return NetworkTag(match[1], tuple(values), named)
