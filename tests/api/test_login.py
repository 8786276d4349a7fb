"""The gate: nothing behind it without a session, sessions that cannot be forged, guesses that get slow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import Message

from modules.api.guard import Guard
from modules.api.login import COOKIE, SESSION_SECONDS, LoginGate, Sessions, SlowDown
from modules.app import App

ADDRESS = "http://127.0.0.1"
PATHS = ("/inferenz/jobs", "/inferenz/events", "/inferenz/pictures/1", "/inferenz/thumbs/1", "/inferenz/gallery",
         "/inferenz/models", "/inferenz/status", "/inferenz/engine/log", "/inferenz/jobs/x/save", "/",
         "/anything")  # fmt: skip


def _page(_: Request, problem: str) -> str:
    return f"<form>{problem}</form>"


@pytest.fixture
def gated(web: FastAPI) -> Iterator[TestClient]:
    sessions = Sessions(users={"ada": "lovelace", "bob": "builder"})
    gate = Guard(LoginGate(web, sessions=sessions, page=_page), local_only=True)
    with TestClient(gate, base_url=ADDRESS) as client:
        yield client


def _log_in(client: TestClient, name: str = "ada", password: str = "lovelace") -> int:
    answer = client.post("/inferenz/login", data={"name": name, "password": password}, follow_redirects=False)
    return answer.status_code


@pytest.mark.parametrize("path", PATHS)
def test_everything_needs_a_session(gated: TestClient, path: str) -> None:
    assert gated.get(path).status_code == 401
    assert gated.post(path, json={}).status_code == 401
    page = gated.get(path, headers={"Accept": "text/html"}, follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/inferenz/login")


def test_a_login_opens_the_door_and_a_logout_closes_it(gated: TestClient) -> None:
    assert _log_in(gated) == 303
    assert gated.get("/inferenz/status").json()["user"] == "ada"
    gated.post("/inferenz/logout", follow_redirects=False)
    assert gated.get("/inferenz/status").status_code == 401


def test_a_logout_ends_copies_of_its_cookie_and_no_other_session(gated: TestClient) -> None:
    _log_in(gated)
    copied = gated.cookies[COOKIE]
    gated.cookies.clear()
    _log_in(gated)
    other = gated.cookies[COOKIE]
    gated.cookies.clear()
    gated.post("/inferenz/logout", headers={"Cookie": f"{COOKIE}={copied}"}, follow_redirects=False)
    assert gated.get("/inferenz/status", headers={"Cookie": f"{COOKIE}={copied}"}).status_code == 401
    assert gated.get("/inferenz/status", headers={"Cookie": f"{COOKIE}={other}"}).status_code == 200


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "x"), ("eve", "lovelace"), ("", ""), ("ada", ""), ("eve", "\0")]
)
def test_a_wrong_login_stays_outside(gated: TestClient, name: str, password: str) -> None:
    assert _log_in(gated, name, password) == 401
    assert gated.get("/inferenz/status").status_code == 401


def test_jobs_of_others_look_as_if_they_were_not_there(gated: TestClient, app: App) -> None:
    job = app.jobs.submit({"prompt": "a fox", "steps": 2, "width": 64, "height": 64}, "bob").id
    _log_in(gated)
    assert gated.get(f"/inferenz/jobs/{job}").status_code == 404
    assert gated.post(f"/inferenz/jobs/{job}/interrupt").status_code == 404
    assert gated.get("/inferenz/jobs").json() == {"jobs": []}


def test_cookies_cannot_be_forged_or_kept_for_ever() -> None:
    now = [1000.0]
    sessions = Sessions(users={"ada": "x"}, now=lambda: now[0])
    cookie = sessions.issue("ada")
    assert sessions.read(cookie) == "ada"
    assert Sessions(users={"ada": "x"}, now=lambda: now[0]).read(cookie) is None
    body, _, signature = cookie.partition(".")
    other = ("1" if signature[0] == "0" else "0") + signature[1:]
    for forged in ("", ".", "x.y", f"{body}.", f"{body[:-2]}.{signature}", f"{body}.{other}", "é.é"):
        assert sessions.read(forged) is None
    now[0] += SESSION_SECONDS + 1
    assert sessions.read(cookie) is None


def test_guesses_get_slow() -> None:
    now = [0.0]
    slow = SlowDown(now=lambda: now[0])
    for _ in range(2):
        slow.failed("1.2.3.4")
    assert slow.seconds("1.2.3.4") == 0
    slow.failed("1.2.3.4")
    assert slow.seconds("1.2.3.4") == 1
    for _ in range(10):
        slow.failed("1.2.3.4")
    assert slow.seconds("1.2.3.4") == 30
    assert slow.seconds("5.6.7.8") == 0
    now[0] += 31
    assert slow.seconds("1.2.3.4") == 0
    slow.succeeded("1.2.3.4")
    assert slow.seconds("1.2.3.4") == 0


def test_guesses_from_many_places_get_slow_too() -> None:
    slow = SlowDown(now=lambda: 0.0)
    for number in range(31):
        slow.failed(f"10.0.0.{number}")
    assert slow.seconds("10.9.9.9") > 0


def test_guessers_keep_nobody_outside_who_was_inside_before() -> None:
    slow = SlowDown(now=lambda: 0.0)
    slow.succeeded("10.9.9.9")
    for number in range(100):
        slow.failed(f"10.0.0.{number}")
    assert slow.seconds("10.9.9.9") == 0
    assert slow.seconds("10.8.8.8") > 0
    for _ in range(4):
        slow.failed("10.9.9.9")
    assert slow.seconds("10.9.9.9") > 0


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_other_sites_may_change_nothing(gated: TestClient, origin: str) -> None:
    _log_in(gated)
    answer = gated.post("/inferenz/jobs", json={"prompt": "x"}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert gated.post("/inferenz/engine/unload", headers={"Origin": ADDRESS}).status_code == 200


@pytest.mark.parametrize("host", ["rebound.example", "testserver", "127.0.0.1.evil.example", "[::1", "192.168.0.7", ""])
def test_a_foreign_host_name_is_refused_on_a_local_server(gated: TestClient, host: str) -> None:
    assert gated.get("/inferenz/login", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.2:7860", "[::1]:7860"])
def test_every_name_of_this_machine_is_answered(gated: TestClient, host: str) -> None:
    assert gated.get("/inferenz/login", headers={"Host": host}).status_code == 200


def test_guesses_that_were_begun_together_get_slow_too(web: FastAPI) -> None:
    """Bodies that come late: all logins are begun before the first one is known to be wrong."""
    gate = LoginGate(web, sessions=Sessions(users={"ada": "lovelace"}), page=_page, slow=SlowDown(now=lambda: 0.0))
    count = 12
    statuses = []

    async def guess(all_begun: asyncio.Barrier) -> None:
        async def receive() -> Message:
            await all_begun.wait()
            return {"type": "http.request", "body": b"name=ada&password=x", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": "/inferenz/login", "root_path": "", "headers": []}
        await gate({**scope, "query_string": b"", "client": ("10.0.0.1", 1)}, receive, send)

    async def together() -> None:
        all_begun = asyncio.Barrier(count)
        await asyncio.gather(*(guess(all_begun) for _ in range(count)))

    asyncio.run(together())
    assert (statuses.count(401), statuses.count(429)) == (3, count - 3)


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
def test_other_sites_learn_nothing_and_may_not_ask_for_more(gated: TestClient, method: str) -> None:
    _log_in(gated)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-forwarded-host"}
    answer = gated.request(method, "/inferenz/status", headers={"Origin": "https://evil.example", **asked})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert gated.get("/inferenz/status", headers={"Origin": ADDRESS}).status_code == 200
