"""As what a model is taken, what is remembered for it, and which files it needs, over HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from modules.api import create_router
from modules.api.errors import install
from modules.app import ROOT, App, AppConfig, build_app
from tests.fakes.executor import ScriptedExecutor
from tests.tiny import write_part, write_tiny_sd1, write_without

STARTER = ROOT / "models" / "Stable-diffusion" / "inferenz-starter.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    (models / "Stable-diffusion").mkdir(parents=True)
    shutil.copy(STARTER, models / "Stable-diffusion" / "starter.safetensors")
    whole = write_tiny_sd1(tmp_path / "whole.safetensors")
    write_without(whole, models / "Stable-diffusion" / "bare.safetensors", "cond_stage_model.", "first_stage_model.")
    write_part(whole, models / "VAE" / "mse.safetensors", prefix="first_stage_model.")
    return tmp_path


@pytest.fixture
def app(folder: Path) -> Iterator[App]:
    with build_app(AppConfig(data_dir=folder), executor=ScriptedExecutor()) as built:
        yield built


@pytest.fixture
def client(app: App) -> TestClient:
    web = FastAPI()
    install(web)
    web.include_router(create_router(app, count_tokens=lambda text, *_, **__: (len(text), 75)))
    return TestClient(web, base_url="http://127.0.0.1")


def listed(client: TestClient, name: str) -> dict[str, object]:
    models = client.get("/inferenz/models").json()["checkpoints"]
    return next(model for model in models if model["name"] == name)


def test_a_model_is_taken_as_something_else_and_back(client: TestClient) -> None:
    assert listed(client, "starter")["taken"] is None
    answer = client.post("/inferenz/models/take", json={"name": "starter", "prediction": "v"}).json()
    assert answer == listed(client, "starter")
    assert answer["taken"] == {"family": "", "prediction": "v", "variant": None}
    assert (answer["prediction"], answer["recognised"]["prediction"]) == ("v", "epsilon")
    library = client.get("/inferenz/library").json()["checkpoints"]
    assert next(model for model in library if model["name"] == "starter")["prediction"] == "v"
    assert client.post("/inferenz/models/take", json={"name": "starter"}).json()["taken"] is None
    refused = client.post("/inferenz/models/take", json={"name": "starter", "family": "sd9"})
    assert refused.status_code == 422
    assert refused.json()["error"]["field"] == "family"
    assert "sd1" in refused.json()["error"]["hint"]
    assert client.post("/inferenz/models/take", json={"name": "nothing"}).status_code == 404
    assert "v" in client.get("/inferenz/models/families").json()["sd1"]["predictions"]


def test_settings_are_remembered_for_a_model_and_forgotten(client: TestClient, app: App) -> None:
    values = {"width": 256, "height": 192, "sampler": "Euler a", "schedule": "Automatic", "vae": "Automatic"}
    answer = client.post("/inferenz/models/profile", json={"name": "starter", "values": values}).json()
    assert answer["profile"] == {**values, "sampler": "euler_a", "schedule": "automatic"}
    assert (answer["defaults"]["width"], answer["own_defaults"]["width"]) == (256, 128)
    plan = app.jobs.resolve({"checkpoint": "starter"})
    assert (plan.width, plan.height, plan.sampler) == (256, 192, "euler_a")
    refused = client.post("/inferenz/models/profile", json={"name": "starter", "values": {"shift": 3}})
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "shift")
    answer = client.post("/inferenz/models/profile", json={"name": "starter", "values": {}}).json()
    assert (answer["profile"], answer["defaults"]) == ({}, answer["own_defaults"])


def test_the_parts_of_a_model_and_the_files_for_them(client: TestClient) -> None:
    parts = client.get("/inferenz/models/parts?checkpoint=bare").json()["parts"]
    text, vae = parts
    assert (text["field"], text["own"], text["missing"], text["files"]) == ("text_encoder", False, True, [])
    assert (text["label"], text["usual"]) == ("CLIP-L text encoder", "clip_l.safetensors")
    assert (vae["field"], vae["own"], vae["missing"], vae["automatic"]) == ("vae", False, False, "mse")
    whole = client.get("/inferenz/models/parts?checkpoint=starter").json()["parts"]
    assert [(part["own"], part["missing"], part["automatic"]) for part in whole] == [(True, False, None)] * 2
    assert client.get("/inferenz/models/parts?checkpoint=nothing").status_code == 404
