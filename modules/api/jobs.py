"""Jobs over HTTP: submit, watch, stop; previews, starting noise and filmstrips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from modules.api.labels import Labels
from modules.api.people import own_job, owner, watched
from modules.services.views import JobView

if TYPE_CHECKING:
    from modules.app import App


def jobs_router(app: App, labels: Labels) -> APIRouter:
    """GET and POST /jobs, /jobs/{id}, /jobs/{id}/interrupt|skip|save|preview|noise|trace, /engine/unload."""
    routes = APIRouter()

    @routes.get("/jobs")
    def jobs(request: Request) -> dict[str, Any]:
        whose = watched(request)
        views = {view.id: view for view in (*app.jobs.recent(20, owner=whose), *app.jobs.active(owner=whose))}
        return {"jobs": [snapshot(app, view, labels) for view in views.values()]}

    @routes.post("/jobs", status_code=202)
    def submit(request: Request, values: Annotated[Mapping[str, Any], Body()]) -> dict[str, Any]:
        return snapshot(app, app.jobs.submit(values, owner(request)), labels)

    @routes.get("/jobs/{job}")
    def job(request: Request, job: str) -> dict[str, Any]:
        return snapshot(app, own_job(app, request, job), labels)

    @routes.post("/jobs/{job}/interrupt")
    def interrupt(request: Request, job: str) -> dict[str, Any]:
        app.jobs.interrupt(own_job(app, request, job).id)
        return {}

    @routes.post("/jobs/{job}/skip")
    def skip(request: Request, job: str) -> dict[str, Any]:
        app.jobs.skip(own_job(app, request, job).id)
        return {}

    @routes.post("/jobs/{job}/save")
    def save(request: Request, job: str) -> dict[str, Any]:
        """Writes finished pictures that could not be written; a StorageError where they still cannot be."""
        view = own_job(app, request, job)
        app.jobs.retry_saves(view.id)
        return snapshot(app, own_job(app, request, job), labels)

    @routes.get("/jobs/{job}/preview/{index}")
    def preview(request: Request, job: str, index: int) -> Response:
        return _jpeg(app.jobs.preview(own_job(app, request, job).id, index))

    @routes.get("/jobs/{job}/noise/{index}")
    def noise(request: Request, job: str, index: int) -> Response:
        return _jpeg(app.jobs.noise(own_job(app, request, job).id, index))

    @routes.get("/jobs/{job}/trace/{index}")
    def trace(request: Request, job: str, index: int) -> dict[str, Any]:
        frames = app.jobs.trace(own_job(app, request, job).id, index) or ()
        return {"frames": [{"step": f.step, "sigma": f.sigma, "seconds": f.seconds} for f in frames]}

    @routes.get("/jobs/{job}/trace/{index}/{step}")
    def frame(request: Request, job: str, index: int, step: int) -> Response:
        frames = app.jobs.trace(own_job(app, request, job).id, index) or ()
        return _jpeg(next((each.jpeg for each in frames if each.step == step), None))

    @routes.post("/engine/unload")
    def unload() -> dict[str, Any]:
        app.executor.unload()
        return {}

    return routes


def snapshot(app: App, view: JobView, labels: Labels, *, brief: bool = False) -> dict[str, Any]:
    """A job for a browser, with its sampler and schedule as people know them. brief: for streams, see `view_json`."""
    values = app.jobs.view_json(view, brief=brief)
    return values if brief else {**values, **labels.of(view.plan.sampler, view.plan.schedule)}


def _jpeg(data: bytes | None) -> Response:
    """A picture that is gone is no error: a browser asks for previews of pictures that end meanwhile."""
    if data is None:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
