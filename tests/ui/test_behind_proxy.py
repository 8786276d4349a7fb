"""The page behind a reverse proxy or a share link: another host name, another scheme, a prefix."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from modules.app import App
from modules.ui.web import create_web
from tests.fakes.drawing import DrawingExecutor
from tests.fakes.drawn_app import drawn_app

LOCAL = "http://127.0.0.1"
PUBLIC = "https://pictures.example"
SHARED = {"Host": "pictures.example", "X-Forwarded-Proto": "https", "Origin": PUBLIC}
REWRITTEN = {"Host": "127.0.0.1:7860", "X-Forwarded-Host": "pictures.example", "X-Forwarded-Proto": "https",
             "Origin": PUBLIC}  # fmt: skip
BARE = {"Host": "127.0.0.1:7860", "Origin": PUBLIC, "Sec-Fetch-Site": "same-origin"}
FOREIGN = {"Host": "pictures.example", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
REQUEST = {"prompt": "a fox", "steps": 2, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with drawn_app(tmp_path_factory.mktemp("proxy"), DrawingExecutor(step_seconds=0.001, load_seconds=0)) as app:
        yield app


@pytest.mark.parametrize("headers", [SHARED, REWRITTEN, BARE], ids=["share", "rewritten", "bare"])
def test_a_picture_can_be_asked_for_through_a_proxy(app: App, headers: Mapping[str, str]) -> None:
    with TestClient(create_web(app, local_only=False), base_url=LOCAL) as client:
        assert client.post("/inferenz/jobs", json=REQUEST, headers=headers).status_code == 202


def test_another_sites_page_is_refused_through_a_proxy_too(app: App) -> None:
    with TestClient(create_web(app, local_only=False), base_url=LOCAL) as client:
        assert client.post("/inferenz/jobs", json=REQUEST, headers=FOREIGN).status_code == 403


def test_a_login_through_a_share_link_sets_a_secure_cookie(app: App) -> None:
    web = create_web(app, auth=[("ada", "lovelace")], local_only=False)
    with TestClient(web, base_url=PUBLIC) as client:
        form = {"name": "ada", "password": "lovelace"}
        answer = client.post("/inferenz/login", data=form, headers=SHARED, follow_redirects=False)
        assert answer.status_code == 303
        assert "secure" in answer.headers["set-cookie"].lower()
        assert client.get("/inferenz/status", headers=SHARED).json()["user"] == "ada"


def test_the_page_works_below_a_prefix(app: App, tmp_path: Path) -> None:
    with TestClient(create_web(app, local_only=False), base_url=LOCAL, root_path="/sd") as client:
        page = client.get("/sd/", headers=SHARED)
        while client.get("/sd/inferenz/page").json()["state"] == "starting":
            time.sleep(0.05)
        page = client.get("/sd/", headers=SHARED)
        assert "inferenz-boot" in page.text
        assert 'src="inferenz/static/main.js' in page.text
        assert client.get("/sd/inferenz/static/main.js").status_code == 200
        assert client.post("/sd/inferenz/jobs", json=REQUEST, headers=SHARED).status_code == 202
