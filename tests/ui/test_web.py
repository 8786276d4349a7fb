"""The page as a browser gets it: its language, its files, and what it does not send."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from modules.ui.assets import KINDS, STATIC, Static
from modules.ui.document import starting_document
from modules.ui.texts import languages, texts_for
from modules.ui.web import create_web
from tests.fakes.drawing import DrawingExecutor
from tests.fakes.drawn_app import drawn_app

LOCAL = "http://127.0.0.1"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with (
        drawn_app(tmp_path_factory.mktemp("web"), DrawingExecutor(step_seconds=0.001, load_seconds=0)) as app,
        TestClient(create_web(app), base_url=LOCAL) as client,
    ):
        for language in languages():
            _ready(client, language)
        yield client


def _ready(client: TestClient, language: str) -> None:
    """A browser that waits."""
    headers = {"Accept-Language": language}
    client.get("/", headers=headers)
    while (state := client.get("/inferenz/page", headers=headers).json()["state"]) == "starting":
        time.sleep(0.05)
    assert state == "ready"


@pytest.mark.parametrize(("accept", "generate"), [("en", "Generate"), ("de-DE,de", "Generieren"), ("it", "Genera")])
def test_the_page_speaks_the_browsers_language(client: TestClient, accept: str, generate: str) -> None:
    page = client.get("/", headers={"Accept-Language": accept})
    assert page.status_code == 200
    assert f'"{generate}"' in page.text


def test_a_chosen_language_wins(client: TestClient) -> None:
    page = client.get("/", headers={"Accept-Language": "en", "Cookie": "inferenz_language=de"})
    assert '"Generieren"' in page.text


def test_an_unknown_language_in_the_cookie_is_ignored(client: TestClient) -> None:
    page = client.get("/", headers={"Accept-Language": "it", "Cookie": "inferenz_language=../../x"})
    assert '"Genera"' in page.text


@pytest.mark.parametrize("name", ["main.js", "page.css", "icons.svg", "inter.woff2", "login.css"])
def test_static_files_are_served(client: TestClient, name: str) -> None:
    assert client.get(f"/inferenz/static/{name}").status_code == 200


@pytest.mark.parametrize(
    ("name", "kind"),
    [("main.js", "text/javascript"), ("login.css", "text/css"), ("icons.svg", "image/svg+xml"),
     ("inter.woff2", "font/woff2")],
)  # fmt: skip
def test_static_files_are_what_they_are_whatever_the_registry_says(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starlette.responses.guess_type", lambda _: ("text/plain", None))
    browser = TestClient(Starlette(routes=[Mount("/static", Static())]))
    answer = browser.get(f"/static/{name}")
    assert answer.headers["content-type"].partition(";")[0] == kind
    again = browser.get(f"/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_every_static_file_is_of_a_known_kind() -> None:
    assert {path.suffix for path in STATIC.glob("[!.]*")} <= set(KINDS)


def test_nothing_outside_static_is_served(client: TestClient) -> None:
    for path in ("/inferenz/static/../page.py", "/inferenz/static/%2e%2e/page.py", "/outputs/.inferenz/state.sqlite3"):
        assert "def build_page" not in client.get(path).text
        assert "SQLite" not in client.get(path).text


def test_the_policy_lets_nothing_leave(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_paths_of_the_machine_stay_on_it(client: TestClient, tmp_path: Path) -> None:
    assert str(tmp_path.parent) not in client.get("/inferenz/models").text


def test_the_page_is_no_card_of_another_program(client: TestClient) -> None:
    page = client.get("/", headers={"Accept-Language": "de"}).text
    assert '<html\n\tlang="de"' in page
    assert "og:image" not in page
    assert "gradio.app" not in page.split("<body")[0].split("window.gradio_config")[0]


def test_the_first_paint_has_its_colours(client: TestClient) -> None:
    page = client.get("/").text
    assert page.index("--page:") < page.index("window.gradio_config")
    assert page.index("prefers-color-scheme:dark") < page.index("window.gradio_config")


def test_start_values_are_those_of_now(client: TestClient) -> None:
    page = client.get("/").text
    boot = json.loads(page.split('id="inferenz-boot">')[1].split("</script>")[0])
    assert boot["values"]["checkpoint"] == "inferenz-starter"


def test_while_it_starts_the_routes_answer_and_the_page_waits(tmp_path: Path) -> None:
    with drawn_app(tmp_path, DrawingExecutor()) as app:
        web = create_web(app)
        with TestClient(web, base_url=LOCAL) as client:
            page = client.get("/", headers={"Accept-Language": "de"})
            assert page.status_code == 200
            if client.get("/inferenz/page", headers={"Accept-Language": "de"}).json()["state"] == "starting":
                assert "Inferenz startet" in page.text
                assert page.headers["cache-control"] == "no-store"
                waiting = client.get("/config", headers={"Accept-Language": "de"})
                assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "1")
            assert client.get("/inferenz/status").status_code == 200
            assert client.get("/inferenz/static/main.js").status_code == 200
            _ready(client, "de")


def test_starting_pages_speak_every_language() -> None:
    for language in languages():
        for failed in (False, True):
            page = starting_document(texts_for(language), theme="system", failed=failed)
            assert texts_for(language)("starting.failed" if failed else "starting") in page
            assert ("location.reload" in page) is not failed


@pytest.mark.parametrize(
    "path",
    [
        "upload",
        "queue/join",
        "run/x",
        "call/x",
        "component_server",
        "process_recording",
        "stream/x",
        "cancel",
        "vibe-edit",
    ],
)
def test_nothing_can_be_sent_to_gradio(client: TestClient, path: str) -> None:
    answer = client.post(f"/gradio_api/{path}", files={"files": ("a.html", b"<script></script>", "text/html")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "missing")


@pytest.mark.parametrize(
    "path",
    ["file=http://example.com/a.png", "file=/etc/passwd", "proxy=http://example.com/", "deep_link?session_hash=a",
     "info", "heartbeat/a", "queue/data?session_hash=a", "openapi.json", "../gradio_api/app_id"],
)  # fmt: skip
def test_nothing_can_be_had_through_gradio(client: TestClient, path: str) -> None:
    answer = client.get(f"/gradio_api/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "missing")


@pytest.mark.parametrize("path", ["/config", "/login", "/monitoring", "/gradio_api", "//gradio_api/upload"])
def test_the_page_is_all_that_gradio_gives(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.post(path).status_code in (404, 405)
