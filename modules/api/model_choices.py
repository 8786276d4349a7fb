"""What a person decides about a checkpoint: as what it is taken, the settings to begin with, the files beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Query

from modules.api.models import checkpoint_json
from modules.core.checkpoint import ModelInfo
from modules.core.flow import unfit
from modules.core.plugin import Registry
from modules.core.sampling import Sampler, Schedule
from modules.services.model_notes import Taken
from modules.services.parts import Place, places

if TYPE_CHECKING:
    from modules.app import App

Name = Annotated[str, Body(max_length=1000)]
Word = Annotated[str, Body(max_length=40)]


def model_choices_router(app: App) -> APIRouter:
    """GET /models/families, /models/parts, /models/sampling; POST /models/take, /models/profile.

    A checkpoint is named as in a request. What cannot be is answered as an error that names the field.
    """
    routes = APIRouter()

    @routes.get("/models/families")
    def families() -> dict[str, Any]:
        """As what a checkpoint can be taken: family -> label, predictions, variants."""
        kinds = app.catalog.families()
        return {
            name: {"label": kind.label, "predictions": kind.predictions, "variants": kind.variants}
            for name, kind in kinds.items()
        }

    @routes.get("/models/parts")
    def parts(checkpoint: Annotated[str, Query(max_length=1000)]) -> dict[str, Any]:
        info = app.catalog.find(checkpoint)
        return {"checkpoint": info.name, "parts": [_part(place) for place in places(info, app.catalog)]}

    @routes.get("/models/sampling")
    def sampling(checkpoint: Annotated[str, Query(max_length=1000)]) -> dict[str, Any]:
        """Samplers and schedules in the order of the lists; fits: whether they go with the checkpoint."""
        flows = app.catalog.find(checkpoint).prediction == "flow"
        kinds: dict[str, Registry[Sampler] | Registry[Schedule]] = {
            "samplers": app.resolver.samplers, "schedules": app.resolver.schedules,
        }  # fmt: skip
        wrong = {what: unfit(registry.values()) if flows else frozenset() for what, registry in kinds.items()}
        return {
            what: [
                {"name": kind.name, "label": kind.label, "fits": kind.name not in wrong[what]}
                for kind in registry.values()
            ]
            for what, registry in kinds.items()
        }

    @routes.post("/models/take")
    def take(
        name: Name, family: Word = "", prediction: Word = "", variant: Annotated[str | None, Body(max_length=40)] = None
    ) -> dict[str, Any]:
        """Take a checkpoint as another family, prediction or variant; without any, as what it is recognised as."""
        taken = Taken(family=family, prediction=prediction, variant=variant)
        return checkpoint_json(app, app.catalog.take(app.catalog.find(name), taken))

    @routes.post("/models/profile")
    def profile(name: Name, values: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        """Begin with these values whenever the checkpoint is chosen; with none, with its own defaults."""
        info: ModelInfo = app.catalog.find(name)
        return checkpoint_json(app, app.catalog.remember(info, app.resolver.profile(info, values) if values else {}))

    return routes


def _part(place: Place) -> dict[str, Any]:
    """own: whether the checkpoint holds it. automatic: the file used where none is chosen. files: all that fit."""
    part = place.part
    return {
        "name": part.name,
        "kind": part.kind,
        "usual": part.usual,
        "optional": part.optional,
        "field": place.field,
        "label": part.label,
        "kind_label": part.kind_label,
        "own": place.own,
        "missing": place.missing,
        "automatic": place.automatic.name if place.automatic else None,
        "files": [file.name for file in place.fitting],
    }
