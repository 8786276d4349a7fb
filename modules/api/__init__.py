"""HTTP routes beside the page, all under /inferenz and all behind the same guard and login as the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from modules.api.archive import archive_router
from modules.api.events import events_router
from modules.api.inspect import inspect_router
from modules.api.jobs import jobs_router
from modules.api.labels import Labels
from modules.api.library import library_router
from modules.api.log import log_router
from modules.api.model_choices import model_choices_router
from modules.api.models import CountTokens, models_router
from modules.api.pictures import pictures_router
from modules.api.prompts import prompts_router
from modules.api.settings import settings_router

if TYPE_CHECKING:
    from modules.app import App

PREFIX = "/inferenz"


def create_router(app: App, *, count_tokens: CountTokens | None = None) -> APIRouter:
    """Every route of this package. count_tokens: how prompts are counted, CLIP's way by default."""
    routes = APIRouter(prefix=PREFIX)
    labels = Labels.gather()
    routes.include_router(jobs_router(app, labels))
    routes.include_router(events_router(app, labels))
    routes.include_router(pictures_router(app, labels))
    routes.include_router(inspect_router(app, labels))
    routes.include_router(archive_router(app))
    routes.include_router(prompts_router(app))
    routes.include_router(settings_router(app))
    routes.include_router(library_router(app))
    routes.include_router(log_router(app))
    routes.include_router(model_choices_router(app))
    routes.include_router(models_router(app, count_tokens=count_tokens))
    return routes
