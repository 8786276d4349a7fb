"""Settings and archives over HTTP."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from modules.api import create_router
from modules.api.archive import zipped
from modules.api.errors import install
from modules.app import App, AppConfig, build_app
from tests.fakes.executor import ScriptedExecutor
from tests.services.samples import FACTS, make_plan, make_png


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with build_app(AppConfig(data_dir=tmp_path), executor=ScriptedExecutor()) as built:
        yield built


@pytest.fixture
def client(app: App) -> TestClient:
    web = FastAPI()
    install(web)
    web.include_router(create_router(app, count_tokens=lambda text, *_, **__: (len(text), 75)))
    return TestClient(web, base_url="http://127.0.0.1")


def test_settings_are_listed_changed_and_reset(app: App, client: TestClient) -> None:
    listed = client.get("/inferenz/settings").json()
    assert [each["name"] for each in listed["settings"]] == [spec.name for spec in app.settings.specs()]
    assert set(listed["sections"]) == {each["section"] for each in listed["settings"]}

    assert client.post("/inferenz/settings", json={"values": {"preview_ms": 100}}).json() == {
        "values": {"preview_ms": 100}
    }
    assert app.settings.get("preview_ms") == 100
    refused = client.post("/inferenz/settings", json={"values": {"preview_ms": 99_999, "strict": True}})
    assert refused.status_code == 422
    assert refused.json()["error"]["field"] == "preview_ms"
    assert "0 to 5000" in refused.json()["error"]["hint"]
    assert app.settings.get("strict") is False
    assert client.post("/inferenz/settings/reset", json={"names": ["preview_ms"]}).json() == {
        "values": {"preview_ms": 250}
    }
    assert client.post("/inferenz/settings/reset", json={"names": ["nothing"]}).json()["error"]["field"] == "nothing"


def test_an_archive_holds_the_files_as_they_are(app: App, client: TestClient) -> None:
    records = [
        app.history.save(make_png(shade), make_plan(seeds=(shade,)), 0, f"job{shade}", model_hash=None, facts=FACTS)
        for shade in range(3)
    ]
    ids = " ".join(str(record.id) for record in records)
    answer = client.post("/inferenz/gallery/archive", data={"ids": f"{ids} 999"})
    assert answer.headers["content-disposition"].startswith('attachment; filename="inferenz-')
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        for record in records:
            path = app.history.file(record.id)
            assert archive.read(path.name) == path.read_bytes()


@pytest.mark.parametrize("ids", ["", "one", "1;2", "-1", "9" * 30, "1 " * 10_001])
def test_what_is_no_list_of_pictures_is_refused(client: TestClient, ids: str) -> None:
    answer = client.post("/inferenz/gallery/archive", data={"ids": ids})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "ids"


def test_an_archive_of_pictures_that_are_gone_says_so(client: TestClient) -> None:
    answer = client.post("/inferenz/gallery/archive", data={"ids": "7 8"})
    assert "any more" in answer.json()["error"]["message"]


def test_equal_names_in_an_archive_get_numbers(tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "00001-1.png"
        path.write_text(folder)
        paths.append(path)
    with zipfile.ZipFile(io.BytesIO(b"".join(zipped(paths)))) as archive:
        assert archive.namelist() == ["00001-1.png", "00001-1 (2).png", "00001-1 (3).png"]
        assert archive.read("00001-1 (3).png") == b"c"


def test_a_foreign_picture_has_no_seed(app: App, client: TestClient) -> None:
    (app.history.outputs / "foreign.png").write_bytes(make_png())
    app.history.rebuild()
    assert app.history.wait(60)
    (found,) = client.get("/inferenz/gallery").json()["pictures"]
    assert found["seed"] is None


def test_the_library_lists_cards_and_refuses_what_is_no_pickle(app: App, client: TestClient) -> None:
    folder = app.config.models[0] / "Stable-diffusion"
    folder.mkdir(parents=True)
    (folder / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    (folder / "broken.safetensors").write_bytes(b"nothing")
    (folder / "broken.md").write_text("# A card", encoding="utf-8")
    listed = client.post("/inferenz/library/refresh").json()
    found = {each["name"]: each for each in listed["checkpoints"]}
    assert found["old"]["convertible"] is True
    assert (found["broken"]["convertible"], found["broken"]["card"]) == (False, True)
    assert listed["folders"]["checkpoints"] == [str(folder)]
    assert "path" not in found["old"]
    assert client.get("/inferenz/library/card", params={"name": "broken"}).json() == {"text": "# A card"}
    assert client.get("/inferenz/library/card", params={"name": "old"}).status_code == 404
    assert client.get("/inferenz/library/card", params={"name": "../old"}).status_code == 404
    refused = client.post("/inferenz/library/convert", json={"name": "broken"})
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "name")


def test_half_characters_are_refused_and_told(client: TestClient) -> None:
    """JSON may hold one half of a surrogate pair; no answer could carry it."""
    headers = {"Content-Type": "application/json"}
    for body in (r'{"values": {"checkpoint": "\ud800"}}', r'{"values": {"\ud800": 1}}'):
        refused = client.post("/inferenz/settings", content=body, headers=headers)
        assert refused.status_code == 422
        assert refused.json()["error"]["message"]
    assert client.get("/inferenz/settings").status_code == 200


def test_an_archive_takes_files_older_than_its_format(tmp_path: Path) -> None:
    path = tmp_path / "old.png"
    path.write_bytes(b"old")
    os.utime(path, (0, 0))
    with zipfile.ZipFile(io.BytesIO(b"".join(zipped([path])))) as archive:
        assert archive.read("old.png") == b"old"
