"""The door before Gradio's app: what the page is made of passes, and nothing else of what Gradio serves."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from modules.api.errors import error_json

# What a browser loads: the document, its stylesheet, and the files of Gradio's own folders
PASSING = frozenset({"/", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"})
FOLDERS = ("/assets/", "/static/", "/svelte/")


class Door:
    """Wraps Gradio's app. All events of the page happen in the browser and speak to our own routes, so Gradio's have no
    work to do: uploads that nobody ever deletes, addresses that this machine is to fetch, recordings to convert, and
    streams without end. They are a 404, those of its next version as well."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and _passes(path):
            await self._inner(scope, receive, send)
        else:
            await error_json("missing", "There is nothing here.", status=404)(scope, receive, send)


def _passes(path: str) -> bool:
    return path in PASSING or path.startswith(FOLDERS)
