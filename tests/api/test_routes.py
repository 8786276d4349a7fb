"""The routes on the real services, from a request to a picture."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from modules.app import App
from tests.fakes.drawing import DrawingExecutor

REQUEST = {"prompt": "a red apple on a blue background", "steps": 4, "width": 64, "height": 64, "seed": "7"}


def _finished(client: TestClient, job: str) -> dict[str, Any]:
    for _ in range(3000):
        view: dict[str, Any] = client.get(f"/inferenz/jobs/{job}").json()
        if view["state"] in ("completed", "interrupted", "failed"):
            return view
        time.sleep(0.01)
    raise AssertionError(f"the job did not end: {view}")


def _made(client: TestClient, **changes: Any) -> dict[str, Any]:
    answer = client.post("/inferenz/jobs", json={**REQUEST, **changes})
    assert answer.status_code == 202, answer.text
    return _finished(client, answer.json()["id"])


def test_a_request_becomes_a_picture(client: TestClient) -> None:
    view = _made(client)
    assert view["state"] == "completed"
    assert view["sampler_label"]
    picture = view["images"][0]["picture"]
    answer = client.get(f"/inferenz/pictures/{picture}")
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    assert Image.open(BytesIO(answer.content)).size == (64, 64)
    assert "attachment" in client.get(f"/inferenz/pictures/{picture}?download=1").headers["content-disposition"]
    assert Image.open(BytesIO(client.get(f"/inferenz/thumbs/{picture}").content)).width <= 512


def test_a_body_that_is_no_json_is_said_to_be_none(client: TestClient) -> None:
    answer = client.post("/inferenz/jobs", content=b"{bad", headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "The body is not JSON."


def test_a_record_has_what_makes_the_picture_again(client: TestClient) -> None:
    picture = _made(client)["images"][0]["picture"]
    record = client.get(f"/inferenz/pictures/{picture}/record").json()
    assert record["seed"] == "7"
    assert record["plan"]["sampler"]
    assert record["plan"]["checkpoint_name"] == "inferenz-starter"
    assert REQUEST["prompt"] in record["infotext"]


def test_what_how_it_works_shows_is_there(client: TestClient) -> None:
    view = _made(client)
    job = view["id"]
    assert [token.removesuffix("</w>") for token in view["tokens"][0]][:3] == ["a", "red", "apple"]
    assert client.get(f"/inferenz/jobs/{job}/noise/0").headers["content-type"] == "image/jpeg"
    frames = client.get(f"/inferenz/jobs/{job}/trace/0").json()["frames"]
    assert [frame["step"] for frame in frames] == [1, 2, 3, 4]
    assert client.get(f"/inferenz/jobs/{job}/trace/0/4").headers["content-type"] == "image/jpeg"


def test_previews_come_while_it_runs(client: TestClient, executor: DrawingExecutor) -> None:
    executor.hold_after = 1
    job = client.post("/inferenz/jobs", json={**REQUEST, "steps": 20}).json()["id"]
    while (preview := client.get(f"/inferenz/jobs/{job}/preview/0?seq=1")).status_code != 200:
        time.sleep(0.01)
    assert Image.open(BytesIO(preview.content)).format == "JPEG"
    assert client.post(f"/inferenz/jobs/{job}/interrupt").status_code == 200
    executor.release()
    assert _finished(client, job)["state"] == "interrupted"


def test_a_skipped_picture_is_left_out(client: TestClient, executor: DrawingExecutor) -> None:
    executor.hold_after = 1
    job = client.post("/inferenz/jobs", json={**REQUEST, "batch_count": 2}).json()["id"]
    while client.get(f"/inferenz/jobs/{job}").json()["images"][0]["step"] < 1:
        time.sleep(0.01)
    client.post(f"/inferenz/jobs/{job}/skip")
    executor.release()
    assert [image["state"] for image in _finished(client, job)["images"]] == ["skipped", "done"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"steps": 0}, "steps"), ({"width": 65}, "width"), ({"seed": "x"}, "seed"), ({"nonsense": 1}, "nonsense"),
     ({"sampler": "nope"}, "sampler"), ({"cfg_scale": 99}, "cfg_scale")],
)  # fmt: skip
def test_a_bad_value_names_its_field(client: TestClient, changes: dict[str, Any], field: str) -> None:
    answer = client.post("/inferenz/jobs", json={**REQUEST, **changes})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == ("bad_request", field)
    assert error["hint"]


@pytest.mark.parametrize("body", ["[]", "7", '"text"', "not json", ""])
def test_a_body_that_is_no_request_is_told_so(client: TestClient, body: str) -> None:
    answer = client.post("/inferenz/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_request"


def test_a_missing_checkpoint_is_told_so(client: TestClient) -> None:
    answer = client.post("/inferenz/jobs", json={**REQUEST, "checkpoint": "nowhere"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "checkpoint_missing"


@pytest.mark.parametrize("path", ["jobs/none", "jobs/none/preview/0", "pictures/99", "thumbs/99", "pictures/99/record",
                                  f"pictures/{2**70}", f"thumbs/{2**63}", "pictures/-1"])  # fmt: skip
def test_what_is_not_there_is_404(client: TestClient, path: str) -> None:
    answer = client.get(f"/inferenz/{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]


def test_the_gallery_pages_marks_and_forgets(client: TestClient) -> None:
    ids = [image["picture"] for image in _made(client, batch_count=3)["images"]]
    first = client.get("/inferenz/gallery?limit=2").json()
    assert ([each["id"] for each in first["pictures"]], first["count"]) == ([ids[2], ids[1]], 3)
    assert [each["id"] for each in client.get(f"/inferenz/gallery?before={ids[1]}").json()["pictures"]] == [ids[0]]
    assert client.post("/inferenz/gallery/favourite", json={"ids": [ids[0]], "favourite": True}).status_code == 200
    assert client.get("/inferenz/gallery?favourites=true").json()["count"] == 1
    client.post("/inferenz/gallery/trash", json={"ids": [ids[1]]})
    assert client.get("/inferenz/gallery?trash=true").json()["count"] == 1
    client.post("/inferenz/gallery/restore", json={"ids": [ids[1]]})
    assert client.get("/inferenz/gallery").json()["count"] == 3
    client.post("/inferenz/gallery/trash", json={"ids": [ids[1]]})
    assert client.post("/inferenz/gallery/empty").json() == {"deleted": 1}


def test_models_have_defaults_and_no_paths(client: TestClient, app: App) -> None:
    models = client.get("/inferenz/models").json()["checkpoints"]
    starter = next(model for model in models if model["name"] == "inferenz-starter")
    assert starter["defaults"]["width"] == 128
    assert app.catalog.find("inferenz-starter").path not in client.get("/inferenz/models").text


def test_tokens_are_counted(client: TestClient) -> None:
    answer = client.post("/inferenz/tokens", json={"text": "a red apple"}).json()
    assert answer == {"count": 3, "limit": 75, "chunks": 1}
    asked = {"text": "a red apple AND a dog", "model": "inferenz-starter", "evaluations": 20}
    assert client.post("/inferenz/tokens", json=asked).json()["count"] == 3
    assert client.post("/inferenz/tokens", json={**asked, "negative": True}).json()["count"] == 6
    assert client.post("/inferenz/tokens", json={**asked, "model": "nothing"}).status_code == 404
    assert client.post("/inferenz/tokens", json={**asked, "evaluations": 0}).status_code == 422
    assert client.post("/inferenz/tokens", json={"text": "x" * 200_000}).status_code == 422


def test_the_engine_tells_of_itself(client: TestClient) -> None:
    status = client.get("/inferenz/status").json()
    assert status["engine"]["device_name"] == "Drawing board"
    assert "options" not in status["engine"]


def test_a_preview_that_is_over_is_nothing_and_no_error(client: TestClient) -> None:
    job = _made(client)["id"]
    assert client.get(f"/inferenz/jobs/{job}/preview/0?seq=9").status_code == 204


def test_pictures_that_could_not_be_written_are_saved_later(client: TestClient, app: App) -> None:
    folder = app.config.outputs / "txt2img-images"
    folder.write_text("a file where the folder should be")
    view = _made(client, batch_count=2)
    assert (view["state"], view["error"]["code"], view["unsaved"]) == ("failed", "storage", 1)
    assert client.post(f"/inferenz/jobs/{view['id']}/save").status_code == 507
    folder.unlink()
    saved = client.post(f"/inferenz/jobs/{view['id']}/save").json()
    assert saved["unsaved"] == 0
    assert saved["images"][0]["picture"]


def test_the_end_of_the_workers_log_can_be_read(client: TestClient, app: App) -> None:
    assert client.get("/inferenz/engine/log").json() == {"logs": []}
    folder = app.config.outputs / ".inferenz" / "logs"
    folder.mkdir(parents=True)
    (folder / "worker.log").write_text("".join(f"line {number} {'x' * 300}\n" for number in range(500)))
    (log,) = client.get("/inferenz/engine/log").json()["logs"]
    assert log["name"] == "worker"
    assert 50 < len(log["lines"]) <= 200
    assert log["lines"][0].startswith("line ")
    assert log["lines"][-1].startswith("line 499 ")


def test_a_number_no_database_holds_begins_at_its_end(client: TestClient) -> None:
    _made(client)
    assert len(client.get(f"/inferenz/gallery?before={2**70}").json()["pictures"]) == 1
    assert client.get(f"/inferenz/gallery?before={-(2**70)}").json()["pictures"] == []
