"""Pictures looked at, stripped and made again over HTTP. What is sent here is held in memory and never stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Request, Response

from modules.api.jobs import snapshot
from modules.api.labels import Labels
from modules.api.people import own_job, owner
from modules.core.errors import MetadataError, StorageError
from modules.imaging.encode import media_type
from modules.imaging.pictures import picture_facts
from modules.imaging.strip import shared_name, stripped
from modules.services.inspection import fitted_json, inspection_json
from modules.services.replay import outcome_json

if TYPE_CHECKING:
    from modules.app import App

UPLOADS = ("inspect", "strip", "replay")  # routes below /inferenz whose body is a picture
UPLOAD_BYTES = 64 << 20
MAX_PASTED = 4_000_000  # characters
AT_ONCE = 2  # uploads that are taken apart at once: each is decoded whole
T = TypeVar("T")


def inspect_router(app: App, labels: Labels) -> APIRouter:
    """POST /inspect, /strip, /replay with a picture as body; the same of one in the gallery below /pictures/{id}; POST
    /paste with a text; GET /jobs/{id}/replay."""
    routes = APIRouter()
    hands = asyncio.Semaphore(AT_ONCE)

    async def apart(work: Callable[[], T]) -> T:
        async with hands:
            return await asyncio.to_thread(work)

    @routes.post("/inspect")
    async def inspect(request: Request) -> dict[str, Any]:
        picture = await _picture(request)
        return inspection_json(await apart(lambda: app.inspector.picture(picture)))

    @routes.get("/pictures/{picture}/inspect")
    async def inspect_kept(picture: int) -> dict[str, Any]:
        return inspection_json(await apart(lambda: app.inspector.picture(app.history.file(picture))))

    @routes.post("/paste")
    async def paste(text: Annotated[str, Body(embed=True, max_length=MAX_PASTED)]) -> dict[str, Any]:
        def fitted() -> dict[str, Any]:
            found = app.inspector.text(text)
            fields = bool(found.info.fields)
            return {"found": fields, "program": found.program, **fitted_json(app.inspector.fit(found.info))}

        return await apart(fitted)

    @routes.post("/strip")
    async def strip(request: Request) -> Response:
        picture = await _picture(request)
        return _copy(await apart(lambda: stripped(picture)), "picture")

    @routes.get("/pictures/{picture}/stripped")
    async def strip_kept(picture: int) -> Response:
        path = app.history.file(picture)
        return _copy(await apart(lambda: stripped(path.read_bytes())), path.stem)

    @routes.post("/replay", status_code=202)
    async def replay(request: Request) -> dict[str, Any]:
        picture = await _picture(request)
        view = await apart(lambda: app.replays.start(app.jobs, picture, owner(request)))
        return snapshot(app, view, labels)

    @routes.post("/pictures/{picture}/replay", status_code=202)
    async def replay_kept(request: Request, picture: int) -> dict[str, Any]:
        view = await apart(lambda: app.replays.start(app.jobs, app.history.file(picture), owner(request)))
        return snapshot(app, view, labels)

    @routes.get("/jobs/{job}/replay")
    def outcome(request: Request, job: str) -> dict[str, Any]:
        found = app.replays.outcome(own_job(app, request, job).id)
        return {"outcome": outcome_json(found) if found else None}

    return routes


async def _picture(request: Request) -> bytes:
    """The body, which is a picture. Raises MetadataError where it is none: no fault of the server's storage."""
    data = await request.body()
    if not data:
        raise MetadataError("The file is empty.", hint="Accepted: PNG, JPEG, WebP and AVIF.")
    try:
        await asyncio.to_thread(picture_facts, data)
    except StorageError as error:
        raise MetadataError(error.message, hint=error.hint) from error
    return data


def _copy(data: bytes, stem: str) -> Response:
    kind = media_type(data)
    name = shared_name(f"{stem}.{kind.removeprefix('image/').replace('jpeg', 'jpg')}")
    ascii_name = name.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_")
    headers = {"Content-Disposition": f'attachment; filename="{ascii_name}"', "Cache-Control": "no-store"}
    return Response(data, media_type=kind, headers=headers)
