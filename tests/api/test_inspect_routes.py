"""Pictures that are sent: looked at, stripped, made again; and those that nobody should send."""

from __future__ import annotations

import io
import json
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from modules.api import PREFIX
from modules.api.inspect import UPLOADS
from modules.api.limits import BodyLimit
from modules.app import App
from modules.imaging.encode import encode_png, encoded
from modules.imaging.formats import SaveFormat, finished
from modules.imaging.pictures import picture_facts
from modules.imaging.png import SIGNATURE, chunk, png_with_text
from tests.api.test_routes import _made
from tests.imaging.hiding import hide
from tests.metadata.graphs import basic
from tests.services.samples import make_png

CLASSIC = (
    "a cat\nNegative prompt: bad\nSteps: 7, Sampler: Euler a, Schedule type: Karras, CFG scale: 4, "
    "Seed: 9007199254740993, Size: 64x96, Model: no-such-model, Version: v1.6.0"
)


def inspected(client: TestClient, data: bytes) -> dict[str, Any]:
    answer = client.post("/inferenz/inspect", content=data)
    assert answer.status_code == 200, answer.text
    values: dict[str, Any] = answer.json()
    return values


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "avif"])
def test_a_picture_of_automatic1111(client: TestClient, app: App, kind: Any) -> None:
    data, _ = finished(make_png(), {"parameters": CLASSIC}, SaveFormat(kind=kind))
    found = inspected(client, data)
    assert (found["program"], found["text"], found["own"]) == ("AUTOMATIC1111 v1.6.0", CLASSIC, False)
    assert (found["prompt"], found["negative_prompt"]) == ("a cat", "bad")
    assert ["Steps", "7"] in found["fields"]
    assert found["values"]["seed"] == "9007199254740993"
    assert (found["values"]["sampler"], found["values"]["schedule"]) == ("euler_a", "karras")
    assert found["missed"] == [{"name": "Model", "value": "no-such-model"}]
    assert not list(app.config.outputs.rglob("*.png"))


def test_a_graph_and_hidden_text(client: TestClient) -> None:
    found = inspected(client, png_with_text(make_png(), {"prompt": json.dumps(basic()), "workflow": "{}"}))
    assert (found["program"], found["values"]["sampler"]) == ("ComfyUI", "euler_a")
    image = Image.fromarray(np.full((64, 64, 4), 255, dtype=np.uint8))
    found = inspected(client, encoded(hide(image, CLASSIC, packed=True), "PNG"))
    assert found["text"] == CLASSIC
    assert "hidden" in found["notes"][0]


def test_texts_that_nobody_knows_are_shown_as_they_are(client: TestClient) -> None:
    found = inspected(client, png_with_text(make_png(), {"Title": "holiday"}))
    assert (found["program"], found["others"], found["fields"]) == ("", {"Title": "holiday"}, [])
    assert inspected(client, make_png())["others"] == {}


def bomb() -> bytes:
    header = (30_000).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


PNG = make_png()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "The file is empty."),
        (b"hello", "The file is not a picture that can be read."),
        (bomb(), "30000 x 30000"),
        (PNG[:33] + chunk(b"tEXt", b"parameters\0" + b"x" * (50 << 20)) + PNG[33:], "16 MiB"),
        (PNG[:33] + chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * (50 << 20))) + PNG[33:], "16 MiB"),
        (PNG[:33] + chunk(b"tEXt", b"parameters\0x")[:-1] + b"?" + PNG[33:], "checksum"),
        (PNG[:50], "truncated"),
    ],
    ids=["empty", "text", "bomb", "50 MB of text", "deflated", "checksum", "cut"],
)
def test_bad_pictures_are_a_sentence_and_the_server_goes_on(client: TestClient, data: bytes, said: str) -> None:
    for route in ("inspect", "replay"):
        answer = client.post(f"/inferenz/{route}", content=data)
        assert answer.status_code == 422
        assert said in json.dumps(answer.json()["error"])
    assert client.get("/inferenz/status").status_code == 200


def test_deep_json_is_a_sentence(client: TestClient) -> None:
    found = inspected(client, png_with_text(PNG, {"prompt": '{"a":' * 200_000}))
    assert (found["program"], found["values"]["prompt"]) == ("ComfyUI", "")
    assert "too deeply" in found["notes"][0]


def test_pasted_text(client: TestClient) -> None:
    found = client.post("/inferenz/paste", json={"text": CLASSIC.replace("Euler a", "Eulr")}).json()
    assert (found["found"], found["values"]["steps"], found["values"]["seed"]) == (True, 7, "9007199254740993")
    assert [each["name"] for each in found["missed"]] == ["Sampler", "Model"]
    assert client.post("/inferenz/paste", json={"text": "just words"}).json()["found"] is False
    graph = client.post("/inferenz/paste", json={"text": json.dumps(basic())}).json()
    assert graph["values"]["steps"] == 20


def test_a_copy_without_a_word(client: TestClient) -> None:
    picture = _made(client)["images"][0]["picture"]
    answer = client.get(f"/inferenz/pictures/{picture}/stripped")
    assert 'filename="00000-shared.png"' in answer.headers["content-disposition"]
    assert picture_facts(answer.content).texts == {}
    kept = client.get(f"/inferenz/pictures/{picture}").content
    assert picture_facts(kept).texts
    assert client.post("/inferenz/strip", content=kept).content == answer.content
    with Image.open(io.BytesIO(kept)) as one, Image.open(io.BytesIO(answer.content)) as other:
        assert one.tobytes() == other.tobytes()
    assert client.post("/inferenz/strip", content=b"hello").status_code == 422


def outcome(client: TestClient, job: str) -> dict[str, Any]:
    for _ in range(2000):
        found = client.get(f"/inferenz/jobs/{job}/replay").json()["outcome"]
        if found:
            return dict(found)
        time.sleep(0.01)
    raise AssertionError("the replay did not end")


def test_a_replay_of_a_kept_picture_and_of_one_that_is_sent(client: TestClient) -> None:
    picture = _made(client, seed="3", batch_size=1)["images"][0]["picture"]
    answer = client.post(f"/inferenz/pictures/{picture}/replay")
    assert answer.status_code == 202
    found = outcome(client, answer.json()["id"])
    assert (found["verdict"], found["difference"]["largest"], found["reasons"]) == ("identical", 0, [])

    data = client.get(f"/inferenz/pictures/{picture}").content
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image).copy()
    pixels[:8] = 255 - pixels[:8]
    changed = png_with_text(encode_png(pixels), picture_facts(data).texts)
    found = outcome(client, client.post("/inferenz/replay", content=changed).json()["id"])
    assert found["verdict"] == "different"
    assert found["difference"]["share"] == pytest.approx(8 / 64, abs=0.02)


def test_a_replay_without_its_model_is_refused(client: TestClient) -> None:
    answer = client.post("/inferenz/replay", content=png_with_text(PNG, {"parameters": CLASSIC}))
    assert answer.status_code == 404
    assert "no-such-model" in answer.json()["error"]["message"]
    assert client.get("/inferenz/jobs/nothing/replay").status_code == 404
    assert client.get("/inferenz/pictures/99/inspect").status_code == 404


@pytest.fixture
def limited(web: FastAPI) -> Iterator[TestClient]:
    guarded = BodyLimit(web, prefix=PREFIX, limit=1000, larger=dict.fromkeys(UPLOADS, 20_000))
    with TestClient(guarded, base_url="http://127.0.0.1") as client:
        yield client


def test_uploads_may_be_larger_than_other_bodies(limited: TestClient) -> None:
    body = png_with_text(PNG, {"a": "x" * 5000})
    assert limited.post("/inferenz/inspect", content=body).status_code == 200
    assert limited.post("/inferenz/paste", content=body).status_code == 413
    assert limited.post("/inferenz/inspect", content=b"x" * 20_001).status_code == 413
