"""The model folders over HTTP: what lies where, model cards, looking again, conversion of pickles."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Query
from starlette.exceptions import HTTPException

from modules.api.models import checkpoint_json, model_json
from modules.core.checkpoint import PICKLES, ModelInfo
from modules.core.errors import RequestError
from modules.services.conversions import Conversions

if TYPE_CHECKING:
    from modules.app import App

MAX_CARD_BYTES = 200_000


def library_router(app: App, *, conversions: Conversions | None = None) -> APIRouter:
    """GET /library, /library/card; POST /library/refresh, /library/convert. conversions: in place of the app's own."""
    routes = APIRouter()
    converting = conversions or Conversions(app.catalog.refresh)
    app.owned.callback(converting.close)

    @routes.get("/library")
    def library() -> dict[str, Any]:
        return _listing(app, converting)

    @routes.post("/library/refresh")
    def refresh() -> dict[str, Any]:
        app.catalog.refresh()
        return _listing(app, converting)

    @routes.get("/library/card")
    def card(name: Annotated[str, Query(max_length=1000)]) -> dict[str, Any]:
        path = Path(_named(app, name).path).with_suffix(".md")
        if not path.is_file():
            raise HTTPException(404, "This model has no card.")
        with path.open("rb") as file:
            return {"text": file.read(MAX_CARD_BYTES).decode("utf-8", "replace")}

    @routes.post("/library/convert", status_code=202)
    def convert(name: Annotated[str, Body(embed=True, max_length=1000)]) -> dict[str, Any]:
        path = Path(_named(app, name).path)
        if path.suffix.lower() not in PICKLES:
            raise RequestError("name", f"{path.name} is no pickle", accepted="a .ckpt, .pt, .pth or .bin file")
        return asdict(converting.start(name, path))

    return routes


def _listing(app: App, conversions: Conversions) -> dict[str, Any]:
    config = app.config
    return {
        "checkpoints": [_described(info) | checkpoint_json(app, info) for info in app.catalog.checkpoints()],
        "vaes": [_described(info) for info in app.catalog.vaes()],
        "text_encoders": [_described(info) for info in app.catalog.text_encoders()],
        "unread": app.catalog.unread(),
        "folders": {
            "checkpoints": [
                str(each) for each in (*(m / "Stable-diffusion" for m in config.models), *config.ckpt_dirs)
            ],
            "vaes": [str(each) for each in (*(m / "VAE" for m in config.models), *config.vae_dirs)],
            "text_encoders": [
                str(each) for each in (*(m / "text_encoder" for m in config.models), *config.text_encoder_dirs)
            ],
        },
        "conversions": [asdict(each) for each in conversions.all()],
    }


def _described(info: ModelInfo) -> dict[str, Any]:
    path = Path(info.path)
    pickled = path.suffix.lower() in PICKLES
    twin = path.with_suffix(".safetensors")
    converted = pickled and twin.exists()
    return {
        **model_json(info),
        "file": path.name,
        "convertible": pickled and not converted,
        "converted": twin.name if converted else None,
        "card": path.with_suffix(".md").is_file(),
    }


def _named(app: App, name: str) -> ModelInfo:
    """The model that is listed under exactly this name: no path of the caller's is ever opened."""
    for info in (*app.catalog.checkpoints(), *app.catalog.vaes(), *app.catalog.text_encoders()):
        if info.name == name:
            return info
    raise HTTPException(404, "There is no such model.")
