"""Every setting reaches what it is about: none is only there to be set."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modules.app import ENGINE_SETTINGS, App, AppConfig, build_app
from modules.core.job import Completed, EngineOptions
from modules.imaging.encode import encode_png
from modules.imaging.pictures import picture_facts
from modules.services.settings import SPECS
from modules.services.state import StateDatabase
from modules.ui.boot import theme
from modules.ui.defaults import form_values
from modules.ui.web import wished_language
from tests.fakes.executor import ScriptedExecutor
from tests.tiny import write_tiny_sd1

ROOT = Path(__file__).parents[2]


@dataclass
class Place:
    """One data folder, and what is built on it."""

    folder: Path
    app: App
    executor: ScriptedExecutor


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "models" / "VAE").mkdir(parents=True)
    models = tmp_path / "models" / "Stable-diffusion"
    models.mkdir()
    write_tiny_sd1(models / "first.safetensors")
    write_tiny_sd1(models / "second.safetensors", seed=1)
    write_tiny_sd1(tmp_path / "models" / "VAE" / "soft.safetensors", layout="original", parts=("vae",))
    executor = ScriptedExecutor()
    with build_app(AppConfig(data_dir=tmp_path), executor=executor) as app:
        yield Place(tmp_path, app, executor)


def plan_has(name: str, wanted: Any) -> Callable[[Place], bool]:
    return lambda place: json.dumps(wanted) in json.dumps(getattr(place.app.jobs.resolve({}), name), default=vars)


def options_have(name: str, wanted: Any) -> Callable[[Place], bool]:
    return lambda place: getattr(place.executor.options, name) == wanted != getattr(EngineOptions(), name)


def form_has(name: str, wanted: Any) -> Callable[[Place], bool]:
    return lambda place: bool(form_values(place.app)[name] == wanted)


def saved_flat(place: Place) -> bool:
    return saved(place).parent.name == "txt2img-images"


def saved(place: Place) -> Path:
    job = place.app.jobs.submit({}).id
    place.executor.begin(job)
    place.executor.picture(job, png=encode_png(bytes(64 * 64 * 3), (64, 64)))
    place.executor.emit(Completed(job=job, seconds=1.0))
    end = time.monotonic() + 20
    while not place.app.history.of_job(job):
        assert time.monotonic() < end
        time.sleep(0.005)
    return place.app.history.file(place.app.history.of_job(job)[0].id)


def saved_in_quality(place: Place) -> bool:
    place.app.settings.set("image_format", "jpg")
    return '"quality":11}' in picture_facts(saved(place)).texts["inferenz"]


def nothing_is_hashed(place: Place) -> bool:
    write_tiny_sd1(place.folder / "models" / "Stable-diffusion" / "third.safetensors", seed=2)
    place.app.catalog.refresh()
    time.sleep(0.2)
    return place.app.catalog.find("third").sha256 is None


def read_by(file: str, expression: str) -> Callable[[Place], bool]:
    """For what only a browser or a whole page would show."""

    def reads(_: Place) -> bool:
        return expression in (ROOT / file).read_text(encoding="utf-8")

    return reads


def restarted(place: Place, look: Callable[[App], bool]) -> bool:
    place.app.close()
    with build_app(AppConfig(data_dir=place.folder), executor=ScriptedExecutor()) as again:
        return look(again)


def old_jobs_are_forgotten(place: Place) -> bool:
    ids = [place.app.jobs.submit({}).id for _ in range(2)]
    for job in ids:
        place.executor.emit(Completed(job=job, seconds=1.0))
    end = time.monotonic() + 20
    while place.app.jobs.active():
        assert time.monotonic() < end
        time.sleep(0.005)
    place.app.close()
    state = StateDatabase(place.app.config.state_path)
    with state.write() as connection:
        connection.execute("UPDATE jobs SET ended = ? WHERE id = ?", (time.time() - 2 * 86_400, ids[0]))
    state.close()
    return restarted(place, lambda app: [view.id for view in app.jobs.recent()] == ids[1:])


# Setting -> (another value than the default, how it shows)
READERS: dict[str, tuple[Any, Callable[[Place], bool]]] = {
    "checkpoint": ("second", plan_has("checkpoint", "second")),
    "vae": ("soft", plan_has("vae", "soft")),
    "clip_skip": (2, plan_has("clip_skip", 2)),
    "default_batch_size": (3, form_has("batch_size", 3)),
    "default_batch_count": (4, form_has("batch_count", 4)),
    "dynamic_prompts": (False, lambda place: place.app.jobs.resolve({"prompt": "{a|b}"}).prompt == "{a|b}"),
    "noise_source": ("NV", plan_has("noise_source", "NV")),
    "ensd": (31337, plan_has("ensd", 31337)),
    "emphasis": ("Ignore", plan_has("emphasis", "Ignore")),
    "strict": (True, plan_has("strict", True)),
    "keep_partial": (True, options_have("keep_partial", True)),
    "date_folders": (False, saved_flat),
    "image_format": ("webp", lambda place: saved(place).suffix == ".webp"),
    "image_quality": (11, saved_in_quality),
    "save_metadata": (False, lambda place: picture_facts(saved(place)).texts == {}),
    "thumbnail_cache_mb": (64, read_by("modules/app.py", 'settings.get("thumbnail_cache_mb")')),
    "preview_ms": (111, options_have("preview_ms", 111)),
    "preview_size": (256, options_have("preview_size", 256)),
    "preview_taesd": (False, lambda place: place.executor.options.taesd == ""),
    "trace": (False, options_have("trace", False)),
    "cache_gb": (2, options_have("cache_bytes", 2 * 2**30)),
    "vram": ("medium", options_have("vram", "medium")),
    "weights": ("fp8", options_have("storage", "fp8")),
    "tiled_vae": (True, options_have("tiled_vae", True)),
    "max_batch_rows": (4, options_have("max_batch_rows", 4)),
    "hash_models": (False, nothing_is_hashed),
    "language": ("de", lambda place: wished_language(place.app) == "de"),
    "theme": ("dark", lambda place: theme(place.app) == "dark"),
    "gallery_thumb_size": (100, read_by("modules/ui/static/gallery.js", 'setting("gallery_thumb_size"')),
    "confirm_delete": (True, read_by("modules/ui/static/gallery-actions.js", 'setting("confirm_delete"')),
    "remember_form": (False, read_by("modules/ui/static/form.js", "boot.remember_form")),
    "keep_jobs_days": (1, old_jobs_are_forgotten),
}


def test_every_setting_has_its_reader() -> None:
    assert set(READERS) == {spec.name for spec in SPECS}
    assert set(READERS) >= ENGINE_SETTINGS


@pytest.mark.parametrize("name", READERS)
def test_a_setting_reaches_its_reader(name: str, place: Place) -> None:
    value, shows = READERS[name]
    place.app.settings.set(name, value)
    assert shows(place), name
