"""What models there are, what the engine is doing, and how many tokens a text has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from modules.api.people import owner
from modules.core.checkpoint import ModelInfo
from modules.core.generation import MAX_PROMPT_CHARACTERS
from modules.prompting.clip import packed_merges
from modules.prompting.counting import count_tokens as counted

if TYPE_CHECKING:
    from modules.app import App

CountTokens = Callable[..., tuple[int, int]]  # as `modules.prompting.counting.count_tokens`


def models_router(app: App, *, count_tokens: CountTokens | None = None) -> APIRouter:
    """GET /models, /status, /clip-merges; POST /tokens. count_tokens: how to count."""
    routes = APIRouter()
    count = count_tokens or counted

    @routes.get("/models")
    def models() -> dict[str, Any]:
        return {
            "checkpoints": [checkpoint_json(app, info) for info in app.catalog.checkpoints()],
            "vaes": [model_json(info) for info in app.catalog.vaes()],
            "text_encoders": [model_json(info) for info in app.catalog.text_encoders()],
        }

    @routes.get("/status")
    def status(request: Request) -> dict[str, Any]:
        engine = asdict(app.jobs.status())
        del engine["options"]
        return {"engine": engine, "user": owner(request)}

    @routes.post("/tokens")
    def tokens(
        text: Annotated[str, Body(max_length=MAX_PROMPT_CHARACTERS)],
        model: Annotated[str, Body()] = "",
        evaluations: Annotated[int, Body(ge=1, le=10_000)] = 1,
        negative: Annotated[bool, Body()] = False,
    ) -> dict[str, Any]:
        """How many tokens a prompt has, and how many find room, as the checkpoint `model` reads, else by CLIP."""
        by, length = app.catalog.reads(app.catalog.find(model)) if model else ("clip", 75)
        used, room = count(text, by, length, evaluations=evaluations, joined=not negative)
        return {"count": used, "limit": room, "chunks": max(1, room // 75) if by == "clip" else 1}

    @routes.get("/clip-merges")
    def clip_merges() -> Response:
        """CLIP's merges, for counting tokens in the browser."""
        headers = {"Content-Encoding": "gzip", "Cache-Control": "private, max-age=2592000"}
        return Response(packed_merges(), media_type="text/plain; charset=utf-8", headers=headers)

    return routes


def model_json(info: ModelInfo) -> dict[str, Any]:
    """A model for a browser: without absolute path and tensor configuration."""
    values = asdict(info)
    for name in ("path", "config", "mtime_ns"):
        del values[name]
    return {**values, "title": info.title, "short_hash": info.short_hash}


def checkpoint_json(app: App, info: ModelInfo) -> dict[str, Any]:
    """A checkpoint, and beside it what a person decided about it.

    taken: as what it is taken, null where that is as what it is recognised; recognised: that. profile: remembered
    values of a request; own_defaults: the defaults without them. reads: by whose tokens prompts are counted.
    lacks: parts that come from other files.
    """
    note, own = app.catalog.note(info), app.catalog.recognised(info)
    recognised = {name: getattr(own, name) for name in ("family", "label", "prediction", "variant")}
    return {
        **model_json(info),
        "taken": asdict(note.taken) if note.taken else None,
        "recognised": recognised,
        "profile": dict(note.profile),
        "own_defaults": asdict(own.defaults),
        "reads": app.catalog.reads(info)[0],
        "lacks": [
            {"name": part.name, "kind": part.kind_label}
            for part in app.catalog.needs(info)
            if part.name not in info.components
        ],
    }
