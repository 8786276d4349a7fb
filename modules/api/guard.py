"""What stands before every route: foreign origins are refused, and nothing leaves the page for other servers."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modules.api.errors import error_json
from modules.core.addresses import is_loopback

# Gradio compiles small functions and loads its modules from here; no other server is ever asked for anything.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Wraps an ASGI app. local_only True: only names of this machine are accepted as host, which keeps other sites
    from reaching it under a name of their own (DNS rebinding)."""

    def __init__(self, inner: ASGIApp, *, local_only: bool) -> None:
        self._inner = inner
        self._local_only = local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._inner(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem:
            await error_json("forbidden", problem, status=403)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in present]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self._inner(scope, receive, guarded)

    def _problem(self, scope: Scope) -> str:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self._local_only and not is_loopback(_name(host)):
            return f"This server answers on this machine only, not as {host!r}. --listen or --gradio-auth open it."
        if headers.get("sec-fetch-site", "") == "same-origin":
            return ""  # the browser's own word, which no page can write; behind a proxy the host may be another
        # Every method: Gradio would tell other origins that they may read its answers, or send any header after asking
        # (OPTIONS), such as the forwarded host below. A link or a picture on another site sends no origin.
        origin = headers.get("origin", "")
        hosts = {host, headers.get("x-forwarded-host", host)}
        if origin and origin.partition("://")[2] not in hosts:
            return "Another site's page may not read or change anything here."
        return ""


def _name(host: str) -> str:
    """A Host header without its port; "" for one that is no host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that are not closed
        return ""
