"""Whose request it is, and whose jobs and pictures they may touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from modules.app import App
    from modules.services.views import JobView

USER = "inferenz.user"  # where the login gate leaves the name in the ASGI scope; absent without a login


def owner(request: Request) -> str:
    """The name under which this request's jobs run: the login's, or "" where there is none."""
    return str(request.scope.get(USER, ""))


def watched(request: Request) -> str | None:
    """Whose jobs this request may see: the person's own, or everyone's (None) where there is no login."""
    return owner(request) or None


def own_job(app: App, request: Request, job: str) -> JobView:
    """Job `job`, if there is one and this person may see it. Raises a 404 for both, so that ids tell nothing."""
    try:
        view = app.jobs.get(job)
    except LookupError:
        view = None
    if view is None or watched(request) not in (None, view.owner):
        raise HTTPException(404, "There is no such job.")
    return view
