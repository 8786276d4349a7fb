"""The end of the server: streams that stay open for as long as a page does end by themselves, without a traceback."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class EndingServer(uvicorn.Server):
    """Sets `closing` before it waits for the requests that are still open."""

    def __init__(self, config: uvicorn.Config, *, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)


class EndsStreams:
    """Wraps an ASGI app: once `closing` is set, whoever waits for the browser to leave is told that it has left.

    Streams, ours and Gradio's, end so within a moment; requests that are being answered are left to finish.
    """

    def __init__(self, inner: ASGIApp, *, closing: asyncio.Event) -> None:
        self._inner = inner
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        read = began = complete = False

        async def received() -> Message:
            nonlocal read
            message = await self._unless_closing(receive) if read else await receive()
            read = read or not message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            nonlocal began, complete
            began = began or message["type"] == "http.response.start"
            complete = complete or (message["type"] == "http.response.body" and not message.get("more_body", False))
            await send(message)

        await self._inner(scope, received, sent)
        if self._closing.is_set() and began and not complete:
            await send({"type": "http.response.body", "body": b""})

    async def _unless_closing(self, receive: Receive) -> Message:
        message = asyncio.ensure_future(receive())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((message, closing), return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            closing.cancel()
