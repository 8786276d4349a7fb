"""Pictures, thumbnails and the gallery over HTTP; outputs/ itself is never served."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from modules.api.labels import Labels
from modules.imaging.encode import media_type
from modules.imaging.formats import MEDIA_TYPES

if TYPE_CHECKING:
    from modules.app import App
    from modules.services.history import PictureRecord

FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}  # a picture's id never names another picture
Ids = Annotated[list[int], Body(embed=True, max_length=10_000)]


def pictures_router(app: App, labels: Labels) -> APIRouter:
    """GET /pictures/{id}, /pictures/{id}/record, /thumbs/{id}, /gallery; POST /gallery/..."""
    routes = APIRouter()

    @routes.get("/pictures/{picture}")
    def picture(picture: int, download: bool = False) -> Response:
        path = app.history.file(_record(app, picture).id)
        if not path.is_file():
            raise HTTPException(404, "The file of this picture is gone.")
        kind = MEDIA_TYPES.get(path.suffix.lower())  # Python does not know WebP and AVIF on every system
        return FileResponse(path, headers=FOREVER, filename=path.name if download else None, media_type=kind)

    @routes.get("/pictures/{picture}/record")
    def record(picture: int) -> dict[str, Any]:
        return record_json(_record(app, picture), labels)

    @routes.get("/thumbs/{picture}")
    def thumbnail(picture: int) -> Response:
        data = app.history.thumbnail(_record(app, picture).id)
        return Response(data, media_type=media_type(data), headers=FOREVER)

    @routes.get("/gallery")
    def gallery(
        before: int | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 60,
        favourites: bool = False,
        trash: bool = False,
        query: Annotated[str, Query(max_length=500)] = "",
    ) -> dict[str, Any]:
        found = app.history.page(before, limit, favourites=favourites, trash=trash, query=query)
        count = app.history.count(favourites=favourites, trash=trash, query=query)
        return {"pictures": [record_json(each, labels) for each in found], "count": count}

    @routes.post("/gallery/favourite")
    def favourite(ids: Ids, favourite: Annotated[bool, Body(embed=True)] = True) -> dict[str, Any]:
        for each in ids:
            app.history.set_favourite(_record(app, each).id, favourite)
        return {}

    @routes.post("/gallery/trash")
    def trash(ids: Ids) -> dict[str, Any]:
        app.history.trash(ids)
        return {}

    @routes.post("/gallery/restore")
    def restore(ids: Ids) -> dict[str, Any]:
        app.history.restore(ids)
        return {}

    @routes.post("/gallery/empty")
    def empty() -> dict[str, Any]:
        return {"deleted": app.history.empty_trash()}

    return routes


# What of a picture's plan a form can take
REUSED = (
    "sampler", "schedule", "cfg_scale", "clip_skip", "options", "schedule_options", "discard_penultimate", "emphasis",
    "noise_source", "ensd", "variation_strength", "seed_resize", "tiling", "guidance",
    "distilled_cfg_scale", "shift",
)  # fmt: skip

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def record_json(record: PictureRecord, labels: Labels) -> dict[str, Any]:
    """A record for a browser: the seed as text (browsers' numbers are doubles), the plan without paths."""
    values = asdict(record)
    plan = values.pop("plan") or {}
    values["seed"] = None if record.seed is None else str(record.seed)
    values["plan"] = {
        **{name: plan.get(name) for name in REUSED},
        "variation_seeds": [str(seed) for seed in plan.get("variation_seeds", ())],
        **labels.of(plan.get("sampler") or record.sampler, plan.get("schedule") or ""),
        "checkpoint_name": (plan.get("checkpoint") or {}).get("name"),
        "vae_name": (plan.get("vae") or {}).get("name"),
        "text_encoder_names": [plan[name]["name"] for name in TEXT_ENCODERS if plan.get(name)],
    }
    return values


def _record(app: App, picture: int) -> PictureRecord:
    try:
        record = app.history.get(picture)
    except LookupError:
        record = None
    if record is None:
        raise HTTPException(404, "There is no such picture.")
    return record
