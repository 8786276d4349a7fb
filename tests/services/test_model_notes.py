"""As what a checkpoint is taken, and the settings to begin with: remembered by file, used everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import CorruptCheckpoint, NotAMatch, RequestError
from modules.core.family import Family, Part
from modules.services.catalog import Catalog
from modules.services.model_notes import NOTHING, Note, Taken
from modules.services.readers import Readers, installed_readers
from modules.services.resolve import Resolver
from modules.services.state import StateDatabase
from tests.fakes.models import OTHER, SAMPLERS, SCHEDULES, STARTER, FakeModels, FakeSettings, resolver, words
from tests.services.model_files import CountingReader, write_model

PARTS = (Part(name="vae", kind="kl4", usual="vae.safetensors"),)


def sdxl(header: Header) -> ModelInfo:
    """Of a header with a tensor "unet": it may well be taken as this."""
    if "unet" not in header.tensors:
        raise NotAMatch(f"{header.path.name} has no UNet.")
    if header.metadata.get("broken"):
        raise CorruptCheckpoint(f"{header.path.name} is incomplete.")
    return ModelInfo(
        name=header.path.stem, path=str(header.path), family="sdxl", label="Stable Diffusion XL", supported=True,
        size=header.size, mtime_ns=header.mtime_ns, defaults=Defaults(width=1024, height=1024),
    )  # fmt: skip


FAMILIES = {
    "sd1": Family(name="sd1", label="Stable Diffusion 1", detect=sdxl, parts=PARTS, predictions=("epsilon", "v"),
                  variants=("", "inpaint")),
    "sdxl": Family(name="sdxl", label="Stable Diffusion XL", detect=sdxl, parts=PARTS, predictions=("epsilon", "v"),
                   variants=("", "turbo")),
    "vae": Family(name="vae", label="VAE", detect=sdxl),
}  # fmt: skip


class Place:
    """A models folder whose catalog can be opened anew, as at a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reader = CountingReader()
        self.open()

    def open(self) -> None:
        self.state = StateDatabase(self.folder / "state.sqlite3")
        readers = Readers(
            checkpoint=self.reader, vae=self.reader, text_encoder=self.reader, version="1", families=FAMILIES
        )
        self.catalog = Catalog((self.folder / "models",), (), (), self.state, readers=readers, hashing=lambda: False)

    def restart(self) -> None:
        self.close()
        self.open()

    def close(self) -> None:
        self.catalog.close()
        self.state.close()

    def file(self, name: str, **values: Any) -> Path:
        return write_model(self.folder / "models" / "Stable-diffusion" / f"{name}.safetensors", **values)

    def resolver(self) -> Resolver:
        return Resolver(
            models=self.catalog, settings=FakeSettings(clip_skip=3), known_samplers=SAMPLERS,
            known_schedules=SCHEDULES, words=words(),
        )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def test_what_a_checkpoint_is_taken_as_outlives_a_restart_and_reaches_the_plan(place: Place) -> None:
    place.file("a")
    info = place.catalog.find("a")
    assert (info.family, info.prediction) == ("sd1", "epsilon")
    taken = place.catalog.take(info, Taken(family="sdxl", prediction="v", variant="turbo"))
    assert (taken.family, taken.label, taken.prediction, taken.variant) == ("sdxl", "Stable Diffusion XL", "v", "turbo")
    place.restart()
    info = place.catalog.find("a")
    assert replace(info, sha256=None) == replace(taken, sha256=None)
    assert place.catalog.recognised(info).family == "sd1"
    plan = place.resolver().resolve({"sampler": "euler"})
    assert (plan.family, plan.prediction, plan.variant, plan.width) == ("sdxl", "v", "turbo", 1024)
    assert place.catalog.hash_of(info) is None  # the file is known, and is hashed as it always was
    back = place.catalog.take(info, Taken())
    assert (back.family, back.prediction, place.catalog.note(back)) == ("sd1", "epsilon", NOTHING)


@pytest.mark.parametrize(
    ("taken", "field", "accepted"),
    [
        (Taken(family="sd9"), "family", "sd1, sdxl"),
        (Taken(family="vae"), "family", "sd1, sdxl"),
        (Taken(prediction="flow"), "prediction", "epsilon, v"),
        (Taken(variant="turbo"), "variant", "inpaint"),
        (Taken(family="sdxl", variant="inpaint"), "variant", "turbo"),
    ],
)
def test_what_it_cannot_be_taken_as_is_named(place: Place, taken: Taken, field: str, accepted: str) -> None:
    place.file("a")
    with pytest.raises(RequestError) as refused:
        place.catalog.take(place.catalog.find("a"), taken)
    assert refused.value.field == field
    assert accepted in refused.value.accepted
    assert place.catalog.find("a").family == "sd1"


def test_a_file_that_cannot_be_read_as_that_family_says_so_and_can_be_taken_back(place: Place) -> None:
    place.file("a", broken="yes")
    info = place.catalog.take(place.catalog.find("a"), Taken(family="sdxl"))
    assert (info.supported, info.family) == (False, "sdxl")
    assert info.problem.startswith("a.safetensors is incomplete")
    assert place.catalog.take(info, Taken()).supported


def test_a_refiner_needs_one_text_encoder() -> None:
    readers = installed_readers()
    plain = ModelInfo(name="a", path="a", family="sdxl", label="SDXL", supported=True)
    assert [part.name for part in readers.needs(plain)] == ["text_encoder", "text_encoder_2", "vae"]
    assert [part.name for part in readers.needs(replace(plain, variant="refiner"))] == ["text_encoder_2", "vae"]


def test_another_file_under_the_name_begins_anew(place: Place) -> None:
    path = place.file("a")
    place.catalog.take(place.catalog.find("a"), Taken(prediction="v"))
    os.utime(path, ns=(1, 1))
    place.catalog.refresh()
    assert place.catalog.find("a").prediction == "v"  # the same bytes, copied again
    place.file("a", note="longer")
    place.catalog.refresh()
    assert place.catalog.find("a").prediction == "epsilon"


def test_a_profile_is_the_checkpoints_default_before_the_settings_and_after_the_request(place: Place) -> None:
    place.file("a")
    place.file("b")
    told: list[None] = []
    place.catalog.subscribe(lambda: told.append(None))
    resolving = place.resolver()
    values = {"width": 832, "height": 1216, "steps": 8, "cfg_scale": 2, "sampler": "DPM++ 2M", "schedule": "Normal",
              "clip_skip": 2, "vae": "Automatic"}  # fmt: skip
    info = place.catalog.find("a")
    profile = resolving.profile(info, values)
    assert (profile["sampler"], profile["schedule"]) == ("dpmpp_2m", "normal")
    info = place.catalog.remember(info, profile)
    assert told
    assert (info.defaults.width, info.defaults.sampler) == (832, "dpmpp_2m")
    assert place.catalog.recognised(info).defaults.width == 512
    place.restart()
    plan = place.resolver().resolve({"checkpoint": "a", "steps": 30})
    assert (plan.width, plan.height, plan.steps, plan.cfg_scale, plan.schedule) == (832, 1216, 30, 2.0, "normal")
    assert plan.clip_skip == 2
    assert place.resolver().resolve({"checkpoint": "b", "sampler": "euler"}).clip_skip == 3
    place.catalog.remember(place.catalog.find("a"), {})
    assert place.resolver().resolve({"checkpoint": "a", "sampler": "euler"}).steps == 20


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prompt": "a red apple"}, "prompt"),
        ({"seed": 1}, "seed"),
        ({"width": 65}, "width"),
        ({"sampler": "Eular"}, "sampler"),
        ({"shift": 3.0}, "shift"),
        ({"vae": "None", "checkpoint": "photo"}, "checkpoint"),
    ],
)
def test_what_no_profile_can_hold_is_named(values: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        resolver().profile(STARTER, values)
    assert refused.value.field == field


def test_a_remembered_vae_comes_before_the_setting() -> None:
    models = FakeModels()
    models.notes["people/photo"] = Note(profile={"vae": "mse"})
    plan = resolver(models, vae="None").resolve({"checkpoint": OTHER.name})
    assert plan.vae is not None
    assert plan.vae.name == "mse"


@pytest.mark.parametrize("taken", ['{"family": 5, "other": 1}', "{", '"text"'])
def test_notes_of_another_version_are_passed_over(place: Place, taken: str) -> None:
    path = place.file("a")
    with place.state.write() as connection:
        connection.execute("INSERT INTO model_notes VALUES (?, ?, ?, ?)", (str(path), path.stat().st_size, taken, "{}"))
    place.catalog.refresh()
    assert place.catalog.note(place.catalog.find("a")) == NOTHING
