"""The files of the browser side: where they are, and a version that changes when any of them does."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
STYLES = ("page", "gallery", "library", "pnginfo")  # stylesheets, in the order in which one may overrule another


@cache
def static_version() -> str:
    """Changes when any file of static/ does, so that browsers never mix two versions."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
