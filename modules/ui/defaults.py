"""What the form holds when nothing was chosen yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modules.core.checkpoint import Defaults, ModelInfo

if TYPE_CHECKING:
    from modules.app import App

STARTER_TITLE = "Inferenz starter"  # how the title in the starter's metadata begins, whatever its file is called

# The form's fields in the order in which the browser is handed their values.
FIELDS = (
    "checkpoint", "vae", "clip_skip", "prompt", "negative_prompt", "sampler", "schedule", "steps", "width", "height",
    "cfg_scale", "batch_count", "batch_size", "seed", "styles", "sampler_options", "variation_seed",
    "variation_strength", "seed_resize_width", "seed_resize_height", "tiling", "guidance",
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
    """The checkpoint to open on: the one from the settings, else the first that can be loaded."""
    usable = [info for info in app.catalog.checkpoints() if info.supported]
    wished = app.settings.get("checkpoint")
    return next((info for info in usable if wished in (info.name, info.title)), usable[0] if usable else None)


def form_values(app: App) -> dict[str, Any]:
    """The form's first values: what the settings say, else the checkpoint's own defaults."""
    info = selected(app)
    wants = info.defaults if info else Defaults()
    vae, clip_skip = app.settings.get("vae"), app.settings.get("clip_skip")
    return {
        "checkpoint": info.name if info else None,
        "vae": vae if vae in dict(vae_choices(app)).values() else "Automatic",
        "clip_skip": clip_skip if clip_skip > 1 else wants.clip_skip,
        "prompt": "",
        "negative_prompt": "",
        "sampler": wants.sampler,
        "schedule": wants.schedule,
        "steps": wants.steps,
        "width": wants.width,
        "height": wants.height,
        "cfg_scale": wants.cfg_scale,
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


def is_starter(info: ModelInfo) -> bool:
    """Whether this is the starter or a copy of it, by what the file says of itself."""
    return info.metadata.get("modelspec.title", "").startswith(STARTER_TITLE)


def checkpoint_choices(app: App) -> list[tuple[str, str]]:
    """(shown, name) of the checkpoints that can be loaded; the Models tab says why others cannot."""
    return [(info.name, info.name) for info in app.catalog.checkpoints() if info.supported]


def vae_choices(app: App, *, automatic: str = "Automatic") -> list[tuple[str, str]]:
    """(shown, name) of the VAEs, after AUTOMATIC1111's Automatic and None. automatic: how the first is shown."""
    names = ("None", *(info.name for info in app.catalog.vaes()))
    return [(automatic, "Automatic"), *((name, name) for name in names)]
