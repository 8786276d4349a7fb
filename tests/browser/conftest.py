"""The real page in headless Chromium. Without Chromium these tests are skipped; under CI=true they fail."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from modules.app import App
from modules.ui.server import build_web, listen
from tests.fakes.drawing import DrawingExecutor
from tests.fakes.drawn_app import drawn_app

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")  # Playwright's event loop runs in this thread for as long: other tests start their own
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if os.environ.get("CI") != "true":
        pytest.importorskip("playwright.sync_api")
        if path is None:
            pytest.skip("Chromium is not installed")
    elif path is None:
        pytest.fail(f"CI=true needs Chromium, and none of {', '.join(NAMES)} is on the PATH.")
    sync_api = import_module("playwright.sync_api")
    with sync_api.sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=path, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def executor() -> DrawingExecutor:
    return DrawingExecutor(step_seconds=0.05, load_seconds=0.05)


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory, executor: DrawingExecutor) -> Iterator[App]:
    with drawn_app(tmp_path_factory.mktemp("browser"), executor) as app:
        yield app


@pytest.fixture(scope="session")
def address(app: App) -> Iterator[str]:
    with closing(listen("127.0.0.1", 17860, port_chosen=False)) as sock:
        with ThreadPoolExecutor(1) as elsewhere:  # away from Playwright's event loop
            web: Any = elsewhere.submit(build_web, app, local_only=True).result()
        server = uvicorn.Server(
            uvicorn.Config(web, log_level="warning", access_log=False, timeout_graceful_shutdown=1, ws="none")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        found = f"http://127.0.0.1:{sock.getsockname()[1]}"
        httpx.get(found, trust_env=False)  # routes are made at the first request: see `served`
        yield found
        server.should_exit = True
        thread.join(20)


OpenPage = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[OpenPage]:
    """Opens the page of the app that draws: see `opener`."""
    with opener(browser, address) as opened:
        yield opened


@contextmanager
def opener(browser: Any, address: str) -> Iterator[OpenPage]:
    """A function that opens the page in a fresh browser profile; keywords are Playwright's context options.

    An error in the page's own code fails the test, and so does a request to any other server.
    """
    contexts, problems = [], []

    def opened(width: int = 1440, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **{"locale": "en-US", **options})
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: _foreign(request.url, address, problems))
        page.goto(address)
        page.wait_for_selector("#inf-canvas .stage")
        page.wait_for_function("document.querySelector('[data-aspect][aria-pressed=true]')")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems


def _foreign(url: str, address: str, problems: list[str]) -> None:
    if not url.startswith((address, "data:", "blob:")):
        problems.append(f"the page asked {url}")
