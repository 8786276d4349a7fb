"""An app of one test's own, served from a thread, and a visit to one of its tabs."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from modules.ui.web import create_web

if TYPE_CHECKING:
    from modules.app import App

PATIENCE_MS = 60_000  # a busy machine is slow, not wrong


def count_words(text: str, by: str, length: int, **_: object) -> tuple[int, int]:
    """A token counter without tables."""
    return len(text.split()), length if by == "clip" else length - 1


@contextmanager
def served(app: App, port: int = 0) -> Iterator[str]:
    """The address of `app`'s page, for as long as the block runs. port: 0 for any."""
    with socket.socket() as sock, ThreadPoolExecutor(1, "page") as thread:
        if os.name != "nt":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen(64)
        # In the thread: the browser's driver keeps an event loop in this one, and the page is built in its own
        web = thread.submit(create_web, app, count_tokens=count_words).result()
        server = uvicorn.Server(uvicorn.Config(web, log_level="error", timeout_graceful_shutdown=1, ws="none"))
        running = thread.submit(server.run, sockets=[sock])
        try:
            while not server.started and not running.done():
                time.sleep(0.02)
            found = f"http://127.0.0.1:{sock.getsockname()[1]}/"
            # FastAPI makes its routes at the first request: now, and not while pytest changes what is done with
            # warnings, which holds for all threads
            httpx.get(found, trust_env=False)
            yield found
        finally:
            server.should_exit = True
            running.result()


@contextmanager
def visit(browser: Any, address: str, tab: str, **options: Any) -> Iterator[Any]:
    """The page on one of its tabs. Whatever the browser's console complains of fails the test."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}, "locale": "en-GB"} | options))
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#generate")
    page.click(f"#tab-{tab}-button")
    try:
        yield page
        assert not complaints
    finally:
        context.close()
