"""A client of the routes, without the page: Gradio is not needed here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from modules.api import create_router
from modules.api.errors import install
from modules.app import App
from tests.fakes.drawing import DrawingExecutor
from tests.fakes.drawn_app import drawn_app


@pytest.fixture
def executor() -> DrawingExecutor:
    return DrawingExecutor(step_seconds=0.002, load_seconds=0)


@pytest.fixture
def app(tmp_path: Path, executor: DrawingExecutor) -> Iterator[App]:
    with drawn_app(tmp_path, executor) as app:
        yield app


@pytest.fixture
def web(app: App) -> FastAPI:
    web = FastAPI()
    install(web)
    web.include_router(create_router(app))
    return web


@pytest.fixture
def client(web: FastAPI) -> Iterator[TestClient]:
    with TestClient(web, base_url="http://127.0.0.1") as client:
        yield client
