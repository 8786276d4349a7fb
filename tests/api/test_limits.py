"""Bodies that are too large end early, whatever length they told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.testclient import TestClient

from modules.api import PREFIX
from modules.api.limits import BodyLimit
from modules.api.login import LoginGate, Sessions

LIMIT = 5_000


@pytest.fixture
def limited(web: FastAPI) -> Iterator[TestClient]:
    with TestClient(BodyLimit(web, prefix=PREFIX, limit=LIMIT), base_url="http://127.0.0.1") as client:
        yield client


def _pieces(count: int) -> Iterator[bytes]:
    """A JSON text in pieces of 1000 bytes, of which no length is told."""
    yield b'{"text": "'
    for _ in range(count):
        yield b"x" * 1000
    yield b'"}'


@pytest.mark.parametrize("path", ["tokens", "jobs", "settings", "gallery/archive"])
def test_a_told_length_is_refused_at_once(limited: TestClient, path: str) -> None:
    answer = limited.post(f"/inferenz/{path}", content=b"x" * (LIMIT + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("form", [False, True])
def test_what_comes_without_a_length_is_counted(limited: TestClient, form: bool) -> None:
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    path = "gallery/archive" if form else "tokens"
    answer = limited.post(f"/inferenz/{path}", content=_pieces(50), headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert "5000" in answer.json()["error"]["message"]


def test_what_is_below_the_limit_passes(limited: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    assert limited.post("/inferenz/tokens", content=_pieces(4), headers=headers).status_code == 200
    assert limited.get("/inferenz/status").status_code == 200


@pytest.mark.parametrize("told", [False, True])
def test_a_login_is_short(web: FastAPI, told: bool) -> None:
    def page(_: Request, problem: str) -> str:
        return problem

    gate = LoginGate(web, sessions=Sessions(users={"ada": "lovelace"}), page=page)
    content = b"name=ada&password=" + b"x" * 5000 if told else _pieces(5)
    with TestClient(gate, base_url="http://127.0.0.1") as client:
        answer = client.post("/inferenz/login", content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
