"""The files of the browser side: where they are, of what kinds, and a version that changes when any of them does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"
# Python asks Windows' registry, in which any program may have called scripts and stylesheets plain text, and browsers
# refuse them then
KINDS: Mapping[str, str] = MappingProxyType(
    {
        ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2",
        ".txt": "text/plain",
    }
)  # fmt: skip
STYLES = ("page", "gallery", "library", "pnginfo")  # stylesheets, in the order in which one may overrule another


class Static(StaticFiles):
    """The files of static/, each as what it is, whatever the system takes it for."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        kind = KINDS.get(os.path.splitext(full_path)[1])
        if kind is not None and "content-type" in response.headers:  # an answer that nothing has changed has none
            response.headers["content-type"] = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        return response


@cache
def static_version() -> str:
    """Changes when any file of static/ does, so that browsers never mix two versions."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
