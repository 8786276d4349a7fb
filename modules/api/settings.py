"""The settings over HTTP: what there is, what it accepts, changing it and going back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body

from modules.services.setting_specs import SECTIONS, SettingSpec

if TYPE_CHECKING:
    from modules.app import App


def settings_router(app: App) -> APIRouter:
    """GET and POST /settings, POST /settings/reset. A refused value is a 422 that names the setting as its field."""
    routes = APIRouter()

    @routes.get("/settings")
    def settings() -> dict[str, Any]:
        specs = app.settings.specs()
        sections = dict.fromkeys((*SECTIONS, *(spec.section for spec in specs)))
        return {
            "sections": [name for name in sections if any(spec.section == name for spec in specs)],
            "settings": [spec_json(spec, app.settings.get(spec.name)) for spec in specs],
            "overruled": overruled(app),
        }

    @routes.post("/settings")
    def change(values: Annotated[Mapping[str, Any], Body(embed=True)]) -> dict[str, Any]:
        return {"values": app.settings.update(values)}

    @routes.post("/settings/reset")
    def reset(names: Annotated[list[str], Body(embed=True, max_length=1000)]) -> dict[str, Any]:
        return {"values": app.settings.update({name: app.settings.spec(name).default for name in names})}

    return routes


def overruled(app: App) -> dict[str, str]:
    """What the command line of this run says instead of a setting."""
    server = app.config.server
    return {name: value for name, value in (("language", server.language), ("theme", server.theme)) if value}


def spec_json(spec: SettingSpec, value: object) -> dict[str, Any]:
    """A setting for a browser; its keys are looked up in the page's texts before label and help are shown."""
    return {
        "name": spec.name, "section": spec.section, "kind": spec.kind, "default": spec.default, "value": value,
        "low": spec.low, "high": spec.high, "choices": spec.choices, "label": spec.label, "help": spec.help,
        "label_key": spec.label_key, "help_key": spec.help_key, "section_key": spec.section_key,
        "hidden": spec.hidden, "needs_restart": spec.needs_restart, "accepted": spec.accepted,
    }  # fmt: skip
