"""The page and its routes as one ASGI app.

The page is built once per language; which one a request gets is told by a cookie, so that a choice needs a reload and
no restart, and no text is translated in the browser. Gradio takes longest of all at a start: nothing here imports it
before the server answers.
"""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modules.api import PREFIX, create_router
from modules.api.errors import error_json, install
from modules.api.guard import Guard
from modules.api.inspect import UPLOAD_BYTES, UPLOADS
from modules.api.limits import BodyLimit
from modules.api.login import LoginGate, Sessions, login_document
from modules.api.models import CountTokens
from modules.api.people import USER
from modules.ui.assets import KINDS, STATIC, Static
from modules.ui.boot import boot_head, theme
from modules.ui.document import Dressed, starting_document
from modules.ui.door import Door
from modules.ui.gradio_import import WithoutStubs
from modules.ui.texts import Texts, languages, negotiate, texts_for
from modules.ui.tokens import system_css, token_css

if TYPE_CHECKING:
    from modules.app import App

LANGUAGE = "inferenz_language"
MAX_UPLOAD = "64mb"
QUIET_SECONDS = 4.0  # before languages are built that no browser waits for: the first page loads meanwhile

log = logging.getLogger(__name__)


class Pages:
    """One Gradio app per language behind one door. Until a language's app is there, "/" answers a page that waits.

    Gradio is imported and the apps are built in a thread while the server answers already, the language that a browser
    asked for first. login: whether people log in. folder: where checkpoints go, as the page tells it.
    """

    def __init__(self, app: App, *, login: bool, folder: str) -> None:
        self._app = app
        self._login = login
        self._folder = folder
        self._ready: dict[str, ASGIApp] = {}
        self._asked: dict[str, None] = {}  # languages that browsers asked for, in that order
        self._waited_for = asyncio.Event()
        self._failed = False

    def state(self, scope: Scope) -> str:
        """What a request's language has: "starting", "ready" or "failed"."""
        ready = language_of(scope, wished_language(self._app)) in self._ready
        return "ready" if ready else "failed" if self._failed else "starting"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The apps and their queues, for as long as the server runs."""
        over = asyncio.Event()
        life = asyncio.create_task(self._live(over))
        try:
            yield
        finally:
            over.set()
            self._waited_for.set()
            await life

    async def _live(self, over: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            try:
                await asyncio.to_thread(_import_gradio)
                while (language := await self._next()) and not over.is_set():
                    page = await asyncio.to_thread(self._build, language)
                    await stack.enter_async_context(page.router.lifespan_context(page))
                    self._ready[language] = self._dressed(page, texts_for(language))
            except Exception:
                log.exception("The page cannot be built.")
                self._failed = True
            await over.wait()

    async def _next(self) -> str | None:
        """The language to build next; those that nobody waits for only when the first page has had time to load."""
        missing = [language for language in languages() if language not in self._ready]
        if not self._ready or not missing:
            first = negotiate(wished_language(self._app))
            return next((each for each in (*self._asked, first) if each in missing), None)
        if not any(language in missing for language in self._asked):
            self._waited_for.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._waited_for.wait(), QUIET_SECONDS)
        return next(each for each in (*self._asked, *missing) if each in missing)

    def _build(self, language: str) -> FastAPI:
        from modules.ui.page import build_page, head
        from modules.ui.theme import build_theme

        async def build() -> FastAPI:
            web: FastAPI = gr.mount_gradio_app(
                FastAPI(openapi_url=None), build_page(self._app, texts_for(language)), path="/", theme=build_theme(),
                css=token_css(), head=head(), footer_links=[], run_history=False, show_error=False, ssr_mode=False,
                auth_dependency=_person if self._login else None, max_file_size=MAX_UPLOAD, enable_monitoring=False,
                favicon_path=str(STATIC / "favicon.svg"),
            )  # fmt: skip
            return web

        import gradio as gr

        # In an event loop: without one Gradio opens loops of its own and never closes them.
        return asyncio.run(build())

    def _dressed(self, page: ASGIApp, texts: Texts) -> ASGIApp:
        boot = partial(boot_head, self._app, texts, login=self._login, folder=self._folder)
        return Dressed(Door(page), language=texts.language, head=boot)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        language = language_of(scope, wished_language(self._app))
        page = self._ready.get(language)
        if page is None:
            self._asked[language] = None
            self._waited_for.set()
            page = self._waiting_answer(scope, texts_for(language))
        await page(scope, receive, send)

    def _waiting_answer(self, scope: Scope, texts: Texts) -> Response:
        if scope["path"].removeprefix(scope.get("root_path", "")) == "/":
            page = starting_document(texts, theme=theme(self._app), failed=self._failed)
            return HTMLResponse(page, 500 if self._failed else 200, headers={"Cache-Control": "no-store"})
        answer = error_json("starting", "The page is still starting.", status=503)
        answer.headers["Retry-After"] = "1"
        return answer


def create_web(
    app: App,
    *,
    auth: Sequence[tuple[str, str]] = (),
    local_only: bool = True,
    folder: str = "models/Stable-diffusion",
    count_tokens: CountTokens | None = None,
) -> ASGIApp:
    """Page and routes. auth: (name, password) pairs, none for no login. local_only: refuse foreign host names.

    folder: where checkpoints go, as the page tells it. count_tokens: see `create_router`.
    """
    pages = Pages(app, login=bool(auth), folder=folder)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pages.running():
            yield

    web = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    install(web)
    web.include_router(create_router(app, count_tokens=count_tokens))

    @web.get(f"{PREFIX}/page")
    def page(request: Request) -> dict[str, str]:
        return {"state": pages.state(request.scope)}

    web.mount(f"{PREFIX}/static", Static(), name="static")
    web.mount("/", pages)
    inner: ASGIApp = BodyLimit(web, prefix=PREFIX, larger=dict.fromkeys(UPLOADS, UPLOAD_BYTES))
    if auth:
        inner = LoginGate(inner, sessions=Sessions(users=dict(auth)), page=partial(_login_page, app))
    return Guard(inner, local_only=local_only)


def _import_gradio() -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "0"  # read when it is imported
    with WithoutStubs():
        import_module("gradio")
    for ending, kind in KINDS.items():  # of Gradio's own files, which it names itself only for scripts (see `KINDS`)
        mimetypes.add_type(kind, ending)


def wished_language(app: App) -> str:
    """This run's language, else the stored one; "auto" follows the browser."""
    return app.config.server.language or str(app.settings.get("language"))


def language_of(scope: Scope, setting: str) -> str:
    """The language of a request: its cookie, else the setting, else what the browser asks for."""
    if scope["type"] not in ("http", "websocket"):
        return negotiate("")
    headers = dict(scope["headers"])
    try:
        cookie = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(LANGUAGE)
    except CookieError:
        cookie = None
    wished = cookie.value if cookie and cookie.value in languages() else setting
    return negotiate(wished, headers.get(b"accept-language", b"").decode("latin-1"))


def _person(request: Request) -> str | None:
    return request.scope.get(USER) or None


def _login_page(app: App, request: Request, problem: str) -> str:
    t = texts_for(language_of(request.scope, wished_language(app)))
    return login_document(
        title=t("login.title"), name=t("login.name"), password=t("login.password"), submit=t("login.submit"),
        problem=t(problem) if problem else "", css=system_css(), language=t.language,
    )  # fmt: skip
