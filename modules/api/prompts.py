"""Prompts over HTTP: what a text becomes, the styles, and the names of wildcards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body

from modules import samplers, schedules
from modules.core.errors import RequestError
from modules.core.generation import MAX_PROMPT_CHARACTERS, parse_request
from modules.prompting.styles import Style
from modules.services.prompt_view import prompt_view

if TYPE_CHECKING:
    from modules.app import App

LOOKED_AT = ("prompt", "negative_prompt", "styles", "sampler", "steps", "seed")
USUAL_STEPS = 20


def prompts_router(app: App) -> APIRouter:
    """POST /prompt; GET and POST /styles, POST /styles/delete; GET /wildcards."""
    routes = APIRouter()
    known_samplers, known_schedules = samplers.registry(), schedules.registry()

    @routes.post("/prompt")
    def prompt(values: Annotated[Mapping[str, Any], Body()]) -> Mapping[str, Any]:
        """Problems, the drawn text and what each step sees, of a request's prompts. Nothing is queued."""
        request = parse_request({name: values[name] for name in LOOKED_AT if values.get(name) is not None})
        chosen, _ = samplers.resolve(request.sampler or "euler", known_samplers, known_schedules)
        return prompt_view(app.words, request, chosen, steps=request.steps or USUAL_STEPS, seed=max(request.seed, 0))

    @routes.get("/styles")
    def styles() -> dict[str, Any]:
        return {"styles": [asdict(style) for style in app.words.styles.all()]}

    @routes.post("/styles")
    def save(values: Annotated[Mapping[str, Any], Body()]) -> dict[str, Any]:
        app.words.styles.save(_style(values))
        return styles()

    @routes.post("/styles/delete")
    def delete(name: Annotated[str, Body(embed=True, max_length=1000)]) -> dict[str, Any]:
        app.words.styles.delete(name)
        return styles()

    @routes.get("/wildcards")
    def wildcards() -> dict[str, Any]:
        return {"wildcards": app.words.wildcards.names()}

    return routes


def _style(values: Mapping[str, Any]) -> Style:
    for name in ("name", "prompt", "negative_prompt"):
        text = values.get(name, "")
        if not isinstance(text, str) or len(text) > MAX_PROMPT_CHARACTERS:
            raise RequestError(
                name, "is not accepted", accepted=f"text of at most {MAX_PROMPT_CHARACTERS:,} characters"
            )
    return Style(
        name=values.get("name", "").strip(), prompt=values.get("prompt", ""),
        negative_prompt=values.get("negative_prompt", ""),
    )  # fmt: skip
