"""What the worker processes printed last, for a person who asks why one stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from modules.app import HIDDEN

if TYPE_CHECKING:
    from modules.app import App

TAIL_BYTES = 32_000
TAIL_LINES = 200


def log_router(app: App) -> APIRouter:
    """GET /engine/log: the end of each worker's log."""
    routes = APIRouter()

    @routes.get("/engine/log")
    def log() -> dict[str, Any]:
        folder = app.config.outputs / HIDDEN / "logs"
        return {"logs": [{"name": path.stem, "lines": tail(path)} for path in sorted(folder.glob("*.log"))]}

    return routes


def tail(path: Path) -> list[str]:
    """The last lines of a file, at most TAIL_LINES out of its last TAIL_BYTES."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    whole = lines[1:] if size > TAIL_BYTES else lines  # the first of a cut is a part of a line
    return whole[-TAIL_LINES:]
