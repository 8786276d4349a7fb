"""One stream of server-sent events per open page: job snapshots as they change, the engine's state, a heartbeat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from modules.api.jobs import snapshot
from modules.api.labels import Labels
from modules.api.people import watched

if TYPE_CHECKING:
    from modules.app import App
    from modules.core.job import EngineStatus
    from modules.services.views import JobView

HEARTBEAT_SECONDS = 5.0
STATUS_SECONDS = 0.5  # between looks at the engine while no job changes


def events_router(app: App, labels: Labels, *, heartbeat: float = HEARTBEAT_SECONDS) -> APIRouter:
    """GET /events."""
    routes = APIRouter()

    @routes.get("/events")
    async def events(request: Request) -> StreamingResponse:
        # no-transform and X-Accel-Buffering keep proxies from holding events back
        headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
        source = stream(app, labels, watched(request), heartbeat)
        return StreamingResponse(source, media_type="text/event-stream", headers=headers)

    return routes


async def stream(app: App, labels: Labels, whose: str | None, heartbeat: float) -> AsyncGenerator[bytes]:
    """First everything that is active or recent, then every change; at most one snapshot per job is ever waiting."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(changed.set)

    told: dict[str, str] = {}  # job -> its state when it was last sent whole
    engine: EngineStatus | None = None
    heard = loop.time()
    with app.jobs.subscribe(owner=whose, wake=wake) as subscription:
        for view in (*app.jobs.recent(20, owner=whose), *app.jobs.active(owner=whose)):
            if view.id not in told:
                yield _job(app, labels, view, told)
        while True:
            changed.clear()
            for view in subscription.drain():
                yield _job(app, labels, view, told)
            status = app.jobs.status()
            if status != engine:
                engine = status
                values = asdict(status)
                yield _event({"engine": {name: value for name, value in values.items() if name != "options"}})
            try:
                # The engine changes by itself, too: it unloads, stops and starts in a process of its own.
                await asyncio.wait_for(changed.wait(), min(STATUS_SECONDS, heartbeat))
                heard = loop.time()
            except TimeoutError:
                if loop.time() - heard >= heartbeat:
                    heard = loop.time()
                    yield b'data: {"heartbeat": true}\n\n'


def _job(app: App, labels: Labels, view: JobView, told: dict[str, str]) -> bytes:
    # Whole at each change of state: plan and tokens, which running snapshots leave out, have come by then.
    whole = f"{view.state} {bool(view.tokens)}"
    brief = told.get(view.id) == whole
    told[view.id] = whole
    return _event(snapshot(app, view, labels, brief=brief))


def _event(values: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
