"""What the form holds when nothing was chosen yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modules.core.checkpoint import Defaults, ModelInfo
from modules.core.plugin import Registry
from modules.core.sampling import Sampler, Schedule
from modules.services.parts import complete

if TYPE_CHECKING:
    from modules.app import App

AUTOMATIC, NONE = "Automatic", "None"
STARTER_TITLE = "Inferenz starter"  # how the title in the starter's metadata begins, whatever its file is called

# The form's fields in the order in which the browser is handed their values.
FIELDS = (
    "checkpoint", "vae", "clip_skip", "prompt", "negative_prompt", "sampler", "schedule", "steps", "width", "height",
    "cfg_scale", "batch_count", "batch_size", "seed", "styles", "sampler_options", "variation_seed",
    "variation_strength", "seed_resize_width", "seed_resize_height", "tiling", "guidance", "text_encoder",
    "distilled_cfg_scale", "shift",
)  # fmt: skip

# What the starter draws best, and what any Stable Diffusion 1 checkpoint draws.
EXAMPLES = (
    "a red apple on a blue background", "a yellow rocket on a purple background",
    "a fox on a green background", "a blue castle on a pink background",
)  # fmt: skip
EXAMPLES_GENERAL = (
    "a lighthouse on a cliff at dawn, oil painting", "portrait of an old sailor, soft window light",
    "a cosy library with tall windows, watercolour", "macro photograph of a dew drop on a leaf",
)  # fmt: skip


def selected(app: App) -> ModelInfo | None:
    """The checkpoint to open on: the one from the settings, else the first that can be loaded and has all its parts."""
    usable = [info for info in app.catalog.checkpoints() if info.supported]
    wished = app.settings.get("checkpoint")
    chosen = next((info for info in usable if wished in (info.name, info.title)), None)
    whole = (info for info in usable if complete(info, app.catalog))
    return chosen or next(whole, usable[0] if usable else None)


def form_values(app: App) -> dict[str, Any]:
    """The form's first values: what is remembered for the checkpoint, what the settings say, else its own defaults."""
    info = selected(app)
    clip_skip = app.settings.get("clip_skip")
    wants = wishes(app, info) if info else _wishes(Defaults(), {})
    vae = wants["vae"] if wants["vae"] != AUTOMATIC or not info else app.settings.get("vae")
    if info and clip_skip > 1 and "clip_skip" not in app.catalog.note(info).profile:
        wants["clip_skip"] = clip_skip
    return {
        "checkpoint": info.name if info else None,
        "prompt": "",
        "negative_prompt": "",
        **wants,
        "vae": vae if vae == NONE or vae in {each.name for each in app.catalog.vaes()} else AUTOMATIC,
        "batch_count": app.settings.get("default_batch_count"),
        "batch_size": app.settings.get("default_batch_size"),
        "seed": "-1",
        "styles": "[]",
        "sampler_options": "{}",
        "variation_seed": "-1",
        "variation_strength": 0,
        "seed_resize_width": 0,
        "seed_resize_height": 0,
        "tiling": False,
        "guidance": "{}",
    }


def wishes(app: App, info: ModelInfo) -> dict[str, Any]:
    """What the form holds for a checkpoint where nobody chose: its defaults, over them what is remembered for it."""
    return _wishes(info.defaults, app.catalog.note(info).profile)


def _wishes(wants: Defaults, profile: Mapping[str, Any]) -> dict[str, Any]:
    encoders = profile.get("text_encoder", [])
    return {
        "sampler": wants.sampler,
        "schedule": wants.schedule,
        "steps": wants.steps,
        "width": wants.width,
        "height": wants.height,
        "cfg_scale": wants.cfg_scale,
        "distilled_cfg_scale": wants.distilled_cfg_scale or 0,
        "shift": wants.shift or 0,  # 0: the model's own rule
        "clip_skip": wants.clip_skip,
        "vae": profile.get("vae", AUTOMATIC),
        "text_encoder": as_json([encoders] if isinstance(encoders, str) else list(encoders)),
    }


def as_json(names: list[str]) -> str:
    """A list as the browser writes it, so that the two can be compared. Automatic is no name of a file."""
    kept = [name for name in names if name != AUTOMATIC]
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False)


def is_starter(info: ModelInfo) -> bool:
    """Whether this is the starter or a copy of it, by what the file says of itself."""
    return info.metadata.get("modelspec.title", "").startswith(STARTER_TITLE)


def model_facts(app: App, info: ModelInfo) -> dict[str, Any]:
    """What the form goes by when this checkpoint is chosen. wishes: the form's field -> value."""
    flows = info.prediction == "flow"
    return {
        "flow": flows, "distilled": info.defaults.distilled_cfg_scale is not None, "wishes": wishes(app, info),
        "profile": bool(app.catalog.note(info).profile), "reads": app.catalog.reads(info)[0],
    }  # fmt: skip


def checkpoint_choices(app: App) -> list[tuple[str, str]]:
    """(shown, name) of the checkpoints that can be loaded; the Models tab says why others cannot."""
    return [(info.name, info.name) for info in app.catalog.checkpoints() if info.supported]


def sampling_choices(kinds: Registry[Sampler] | Registry[Schedule]) -> list[tuple[str, str]]:
    """(shown, name) of samplers or schedules."""
    return [(kind.label, kind.name) for kind in kinds.values()]
