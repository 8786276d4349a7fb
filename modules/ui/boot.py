"""What the browser side starts from: values of now, written into the document at every load of the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from modules import samplers, schedules
from modules.core.flow import unfit
from modules.core.sampling import Optioned
from modules.ui.assets import STATIC, STYLES, static_version
from modules.ui.defaults import EXAMPLES, EXAMPLES_GENERAL, FIELDS, STARTER_TITLE, form_values, is_starter, model_facts
from modules.ui.document import first_paint
from modules.ui.guidance_kinds import described_guidance
from modules.ui.texts import Texts, languages, texts_for

if TYPE_CHECKING:
    from modules.app import App


def boot_head(app: App, texts: Texts, *, login: bool, folder: str) -> str:
    """Elements for the document's head: colours of the first paint, start values, the browser side's modules."""
    version = static_version()
    boot = script_json(boot_values(app, texts, login=login, folder=folder))
    modules = "".join(
        f'<link rel="modulepreload" href="inferenz/static/{path.name}">'
        for path in sorted(STATIC.glob("*.js"))
        if path.name != "main.js"
    )
    styles = "".join(
        f'<link rel="preload" as="style" href="inferenz/static/{name}.css?v={version}">' for name in STYLES
    )
    return (
        f"{first_paint(theme(app))}"
        f"{styles}"
        f'<script type="application/json" id="inferenz-boot">{boot}</script>'
        f'<script type="module" src="inferenz/static/main.js?v={version}"></script>{modules}'
    )


def script_json(values: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: "</script>" would end it, and "<!--<script>" keep it from ending
    (HTML standard, restrictions for contents of script elements)."""
    return json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")


def theme(app: App) -> str:
    """This run's theme, else the stored one: "dark", "light" or "system"."""
    return str(app.config.server.theme or app.settings.get("theme"))


def boot_values(app: App, texts: Texts, *, login: bool, folder: str) -> Mapping[str, Any]:
    """What static/live.js exports as `boot`."""
    usable = [each for each in app.catalog.checkpoints() if each.supported]
    return {
        "language": texts.language,
        "languages": {name: texts_for(name)("language.name") for name in languages()},
        "texts": dict(texts.table),
        "theme": theme(app),
        "login": login,
        "folder": folder,
        "fields": list(FIELDS),
        "values": form_values(app),
        "samplers": {
            kind.name: {
                "label": kind.label,
                "evaluations": kind.evaluations,
                "schedule": kind.schedule,
                "options": _options(kind),
            }
            for kind in samplers.registry().values()
        },
        "guidance": described_guidance(texts),
        "schedules": {
            kind.name: {"label": kind.label, "options": _options(kind)} for kind in schedules.registry().values()
        },
        "unfit": {  # for flow models
            "sampler": sorted(unfit(samplers.registry().values())),
            "schedule": sorted(unfit(schedules.registry().values())),
        },
        "checkpoints": [each.name for each in usable],
        "models": {each.name: model_facts(app, each) for each in usable},
        "starter": [each.name for each in usable if is_starter(each)],
        "starter_title": STARTER_TITLE,
        "examples": EXAMPLES,
        "examples_general": EXAMPLES_GENERAL,
        "trouble": app.history.progress().error,
        "remember_form": app.settings.get("remember_form"),
    }


def _options(kind: Optioned) -> dict[str, Any]:
    return {name: asdict(option) for name, option in kind.options.items()}
