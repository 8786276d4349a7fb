"""Models of gigabytes on a device that is only described: who stays, who goes, and in which mode. Nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from modules.core.checkpoint import Header, ModelInfo, Separate
from modules.core.errors import OutOfMemory
from modules.core.family import Family
from modules.core.generation import FileRef
from modules.core.job import EngineOptions, MemoryMode
from modules.core.operations import ModelKey
from modules.diffusion.backbone import Backbone, BackboneKind, PartName, Placement
from modules.engine import memory
from modules.engine.estimate import Needs, Work
from modules.engine.manager import Loaders, ModelManager
from modules.engine.placement import Device, Machine, choose, next_mode
from tests.engine.small import SmallBackbone
from tests.passes import chosen

GB = 10**9
PARTS: Mapping[PartName, int] = {"denoiser": 5 * GB, "text": 3 * GB // 2, "vae": GB // 5}
NAMES: Mapping[PartName, str] = {
    "denoiser": "model.diffusion_model.w", "text": "cond_stage_model.w", "vae": "first_stage_model.w"
}  # fmt: skip
SMALL, LARGE = Work(width=512, height=512), Work(width=2048, height=2048)


class Big(SmallBackbone):
    """A model that tells of gigabytes. fails: modes for which the device turns out to have too little memory."""

    def __init__(self, info: ModelInfo, placement: Placement, fails: set[MemoryMode]) -> None:
        super().__init__(ModelKey(info.path, 1))
        self.info, self.placement, self.part_bytes = info, placement, PARTS
        self.weight_bytes = sum(PARTS.values())
        self.fails = fails
        self.present = 0  # in "medium": bytes of the part that computed last

    @property
    def bytes_there(self) -> int:
        if self.closed:
            return 0
        return {"normal": self.weight_bytes, "medium": self.present, "low": 0}[self.placement.vram]

    def change(self, mode: MemoryMode) -> None:
        if mode in self.fails:
            raise torch.OutOfMemoryError("CUDA out of memory")
        super().change(mode)

    def retreat(self) -> None:
        self.present = 0


@dataclass
class Card:
    """A device with so much memory, and the models on it."""

    total: int
    models: list[Big] = field(default_factory=list)
    fails: set[MemoryMode] = field(default_factory=set)
    loads: list[MemoryMode] = field(default_factory=list)

    def free(self, device: torch.device) -> int:
        return self.total - sum(model.bytes_there for model in self.models)

    def load(self, info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> Backbone:
        self.loads.append(placement.vram)
        if placement.vram in self.fails:
            raise torch.OutOfMemoryError("CUDA out of memory")
        model = Big(info, placement, self.fails)
        if placement.device.type != "cpu":
            assert model.bytes_there <= self.free(placement.device), "more than the device has"
        self.models.append(model)
        return model

    def manager(self, device: str = "cuda:0", **options: object) -> ModelManager:
        cpu = Device(name="cpu", label="CPU", memory=64 * GB, bf16=True)
        card = Device(name=device, label="a card", memory=self.total, capability=(8, 6))
        machine = Machine(devices=(cpu,) if device == "cpu" else (card, cpu))
        kinds = {"big": BackboneKind(name="big", load=self.load)}
        families = {"big": Family(name="big", label="Big", detect=detect)}
        chosen = EngineOptions(device=device, **options)  # type: ignore[arg-type]
        return ModelManager(chosen, machine=machine, loaders=Loaders(families=families, kinds=kinds), free=self.free)


def detect(header: Header) -> ModelInfo:
    return ModelInfo(
        name=header.path.stem, path=str(header.path), family="big", label="Big", supported=True,
        size=header.size, mtime_ns=header.mtime_ns,
        config={"unet": {"block_out_channels": (320, 640, 1280, 1280)}},
    )  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> list[FileRef]:
    """Files of 6.7 GB that take no room: nothing but the header was written."""
    found = []
    for name in "abc":
        header, end = {}, 0
        for part, size in PARTS.items():
            header[NAMES[part]] = {"dtype": "F16", "shape": [size // 2], "data_offsets": [end, end + size]}
            end += size
        raw = json.dumps(header).encode()
        path = tmp_path / f"{name}.safetensors"
        with path.open("wb") as file:
            file.write(len(raw).to_bytes(8, "little") + raw)
            file.truncate(8 + len(raw) + end)
        found.append(FileRef(name=name, path=str(path)))
    return found


NEEDS = Needs(parts=PARTS, activations=GB, decode=3 * GB, tiled=GB, text=GB // 10)


@pytest.mark.parametrize(
    ("room", "least", "mode", "tiled", "fits"),
    [
        (10.0, "normal", "normal", False, True),
        (9.0, "normal", "medium", False, True),  # taking turns, so that the picture is decoded whole
        (10.0, "medium", "medium", False, True),
        (5.0, "normal", "low", False, True),
        (3.0, "normal", "low", True, True),
        (1.0, "normal", "low", True, False),
        (1.0, "low", "low", True, False),
    ],
)
def test_the_fastest_that_fits(room: float, least: MemoryMode, mode: MemoryMode, tiled: bool, fits: bool) -> None:
    choice = choose(NEEDS, int(room * GB), least=least)
    assert (choice.mode, choice.tiled, choice.fits) == (mode, tiled, fits)
    assert choice.whole == NEEDS.at("normal") == int(9.7 * GB)


def test_a_whole_model_is_decoded_in_tiles_where_parts_by_turns_would_be_too() -> None:
    needs = replace(NEEDS, decode=20 * GB)
    assert (choose(needs, 8 * GB).mode, choose(needs, 8 * GB).tiled) == ("normal", True)
    assert (choose(needs, 7 * GB).mode, choose(needs, 7 * GB).tiled) == ("medium", True)


def test_a_model_that_cannot_change_keeps_its_mode() -> None:
    assert choose(NEEDS, GB, movable=False).mode == "normal"
    assert [next_mode(mode) for mode in ("normal", "medium", "low")] == ["medium", "low", None]


def test_models_that_fit_together_stay_and_a_third_sends_the_least_recently_used(files: list[FileRef]) -> None:
    card = Card(16 * GB)
    models = card.manager()
    for index in (0, 1, 0):
        assert models.bring(chosen(files[index]), SMALL).fit.notice == ""
    assert models.loaded() == ("a", "b")
    models.bring(chosen(files[2]), SMALL)
    assert models.loaded() == ("c", "a")
    assert card.loads == ["normal"] * 3


def test_a_model_in_use_is_not_given_up(files: list[FileRef]) -> None:
    card = Card(9 * GB)
    models = card.manager()
    models.pin(models.bring(chosen(files[0]), SMALL).backbone.key)
    second = models.bring(chosen(files[1]), SMALL)
    assert set(models.loaded()) == {"a", "b"}
    assert second.backbone.placement.vram == "low"
    assert "layers" in second.fit.notice


@pytest.mark.parametrize(
    ("total", "mode", "words"), [(8 * GB, "normal", ""), (7 * GB, "medium", "take turns"), (4 * GB, "low", "slow")]
)
def test_the_mode_follows_the_memory_there_is(total: int, mode: MemoryMode, words: str, files: list[FileRef]) -> None:
    models = Card(total).manager()
    brought = models.bring(chosen(files[0]), SMALL)
    assert brought.backbone.placement.vram == mode
    assert words in brought.fit.notice
    assert (brought.fit.notice == "") == (words == "")
    assert models.bring(chosen(files[0]), SMALL).fit.notice == ""  # said once


@pytest.mark.parametrize("asked", ["medium", "low"])
def test_the_mode_saves_at_least_what_the_person_asks(asked: MemoryMode, files: list[FileRef]) -> None:
    brought = Card(80 * GB).manager(vram=asked).bring(chosen(files[0]), SMALL)
    assert brought.backbone.placement.vram == asked
    assert brought.fit.notice == ""  # known
    assert Card(4 * GB).manager(vram=asked).bring(chosen(files[0]), SMALL).backbone.placement.vram == "low"


def test_a_person_who_wants_the_whole_model_there_gets_it(files: list[FileRef]) -> None:
    card = Card(7 * GB)
    models = card.manager(vram="normal")
    fit = models.bring(chosen(files[0]), SMALL).fit
    assert (fit.choice.mode, card.loads) == ("normal", ["normal"])
    assert "may fail" in fit.notice


def test_a_larger_picture_changes_the_mode_in_place_and_a_smaller_one_changes_it_back(files: list[FileRef]) -> None:
    card = Card(10 * GB)
    models = card.manager()
    brought = models.bring(chosen(files[0]), SMALL)
    fit = models.fit(brought.backbone.key, LARGE)
    assert (fit.choice.mode, brought.backbone.placement.vram) == ("medium", "medium")
    assert "2048 x 2048" in fit.notice
    models.fit(brought.backbone.key, SMALL)
    assert brought.backbone.placement.vram == "normal"
    assert card.loads == ["normal"]


def test_others_go_before_a_larger_picture_makes_parts_take_turns(files: list[FileRef]) -> None:
    models = Card(20 * GB).manager()
    models.bring(chosen(files[0]), SMALL)
    key = models.bring(chosen(files[1]), SMALL).backbone.key
    assert models.fit(key, LARGE).choice.mode == "normal"
    assert models.loaded() == ("b",)


def test_a_model_of_parts_by_turns_leaves_the_device_for_another_and_stays_loaded(files: list[FileRef]) -> None:
    card = Card(7 * GB)
    models = card.manager(cache_bytes=99 * GB)
    models.bring(chosen(files[0]), SMALL)
    card.models[0].present = PARTS["denoiser"]
    assert models.bring(chosen(files[1]), SMALL).backbone.placement.vram == "medium"
    assert models.loaded() == ("b", "a")
    assert card.models[0].present == 0


def test_memory_that_runs_out_is_made_by_others_and_then_by_the_next_mode(files: list[FileRef]) -> None:
    card = Card(16 * GB)
    models = card.manager()
    models.bring(chosen(files[0]), SMALL)
    backbone = models.bring(chosen(files[1]), SMALL).backbone
    assert "given up" in models.relieve(backbone.key, SMALL)
    assert models.loaded() == ("b",)
    assert "take turns" in models.relieve(backbone.key, SMALL, "medium")
    assert models.relieve(backbone.key, SMALL, "medium") == ""
    assert "layers" in models.relieve(backbone.key, SMALL)
    assert models.relieve(backbone.key, SMALL) == ""
    assert backbone.placement.vram == "low"
    # The estimate was wrong, which is not tried again; for a smaller picture it may be right
    assert models.fit(backbone.key, SMALL).choice.mode == "low"
    assert models.fit(backbone.key, Work(width=64, height=64)).choice.mode == "normal"


def test_a_load_that_does_not_fit_is_tried_in_the_next_modes(files: list[FileRef]) -> None:
    card = Card(16 * GB, fails={"normal"})
    brought = card.manager().bring(chosen(files[0]), SMALL)
    assert brought.backbone.placement.vram == "medium"
    assert card.loads == ["normal", "normal", "medium"]
    card = Card(16 * GB, fails={"normal", "medium", "low"})
    with pytest.raises(OutOfMemory, match="not enough free memory"):
        card.manager().bring(chosen(files[0]), SMALL)


def test_a_change_of_mode_that_does_not_fit_goes_to_the_next(files: list[FileRef]) -> None:
    card = Card(10 * GB)
    models = card.manager()
    backbone = models.bring(chosen(files[0]), SMALL).backbone
    card.fails.add("medium")
    models.fit(backbone.key, LARGE)
    assert backbone.placement.vram == "low"


def test_another_mode_needs_no_other_load(files: list[FileRef]) -> None:
    card = Card(16 * GB)
    models = card.manager()
    backbone = models.bring(chosen(files[0]), SMALL).backbone
    models.configure(EngineOptions(device="cuda:0", vram="low"))
    assert models.bring(chosen(files[0]), SMALL).backbone is backbone
    assert backbone.placement.vram == "low"


def test_in_one_memory_the_mapped_file_counts_for_nothing(files: list[FileRef]) -> None:
    """In bfloat16 the file has another dtype: all of it is copied."""
    full = Card(64 * GB)
    models = full.manager("cpu", dtype="bfloat16")
    assert models.bring(chosen(files[0]), SMALL).fit.notice == ""
    short = Card(10**9)
    fit = short.manager("cpu", dtype="bfloat16").bring(chosen(files[0]), SMALL).fit
    assert not fit.choice.fits
    assert "may become slow" in fit.notice
    assert (fit.choice.mode, fit.choice.tiled) == ("normal", True)


def test_the_host_s_pool_is_kept_for_the_next_model_and_goes_back_with_the_last(
    files: list[FileRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[str] = []
    models = Card(9 * GB).manager()
    monkeypatch.setattr(models._pool, "clear", lambda: did.append("pool"))
    monkeypatch.setattr(memory, "give_back", lambda device: did.append("system"))
    models.bring(chosen(files[0]), SMALL)
    models.bring(chosen(files[1]), SMALL)  # the device is too small for both
    assert did == ["system", "system"]
    models.unload()
    assert did[2:] == ["system", "pool", "system"]


def test_the_person_s_budget_counts_all_weights(files: list[FileRef]) -> None:
    models = Card(80 * GB).manager(cache_bytes=7 * GB)
    models.bring(chosen(files[0]), SMALL)
    models.bring(chosen(files[1]), SMALL)
    assert models.loaded() == ("b",)
