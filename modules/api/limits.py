"""How much a request may bring: counted while it comes, for a length that was told can be missing or wrong."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modules.api.errors import error_json

BODY_BYTES = 2_000_000  # of our routes: prompts, settings and lists of ids are far below


class TooLarge(HTTPException):
    """A body above its limit. FastAPI answers it as it answers every HTTPException."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"The request is too large: at most {limit} bytes are accepted.")


def told_length(scope: Scope) -> int:
    """The body's length as the request tells it, bytes; 0 where it tells none."""
    told = dict(scope["headers"]).get(b"content-length", b"")
    return int(told) if told.isdigit() else 0


def limited(receive: Receive, limit: int) -> Receive:
    """`receive`, raising TooLarge once more than `limit` bytes of a body have come."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b"")) if message["type"] == "http.request" else 0
        if seen > limit:
            raise TooLarge(limit)
        return message

    return counted


class BodyLimit:
    """Wraps an ASGI app: bodies for paths below `prefix` above `limit` bytes are a 413. Others are left alone.

    larger: of single paths below `prefix`, bytes.
    """

    def __init__(
        self, inner: ASGIApp, *, prefix: str, limit: int = BODY_BYTES, larger: Mapping[str, int] | None = None
    ) -> None:
        self._inner = inner
        self._prefix = prefix
        self._limit = limit
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or not path.startswith(f"{self._prefix}/"):
            await self._inner(scope, receive, send)
            return
        limit = self._larger.get(path.removeprefix(f"{self._prefix}/"), self._limit)
        if told_length(scope) > limit:
            await error_json("too_large", TooLarge(limit).detail, status=413)(scope, receive, send)
        else:
            await self._inner(scope, limited(receive, limit), send)
