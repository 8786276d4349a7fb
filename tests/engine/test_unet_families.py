"""Stable Diffusion 1, 2 and XL in all their kinds: from files through the engine, against diffusers' own pipelines."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import Completed, EngineOptions, Event, Failed, Interrupted
from modules.diffusion.backbone import Backbone, Batch
from modules.diffusion.noise import PictureNoise
from modules.engine.engine import Engine
from modules.engine.manager import ModelManager
from tests.backbones.unet_files import write_folder, write_original
from tests.backbones.unet_pipelines import picture
from tests.backbones.unets import KINDS, SDXL, Kind, networks
from tests.engine.small import Bench

PROMPT, NEGATIVE = "a red apple on a blue background", "blurry, ugly"
STEPS, CFG = 10, 5.0
SIZE = (72, 104)  # height and width: the latent's sides are odd


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a network connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


class Looking(ModelManager):
    """The real manager; it keeps what its models decode."""

    def __init__(self) -> None:
        super().__init__(EngineOptions(device="cpu", dtype="float32"))
        self.decoded: list[Tensor] = []
        self.backbones: list[Backbone] = []

    def _load(self, *args: Any) -> Backbone:
        model: Any = super()._load(*args)
        decode = model.decode

        def kept(latent: Tensor, **how: Any) -> Tensor:
            rgb: Tensor = decode(latent, **how)
            self.decoded.append(rgb)
            return rgb

        model.decode = kept
        self.backbones.append(model)
        loaded: Backbone = model
        return loaded


def plan(path: Path, kind: Kind, **values: Any) -> GenerationPlan:
    return GenerationPlan(
        **{
            "checkpoint": FileRef(name=kind.name, path=str(path)), "family": kind.family, "prompt": PROMPT,
            "negative_prompt": NEGATIVE, "clip_skip": 1, "sampler": "euler", "schedule": "normal", "steps": STEPS,
            "height": SIZE[0], "width": SIZE[1], "cfg_scale": CFG, "seeds": (1,), **values,
        }
    )  # fmt: skip


@pytest.fixture
def bench() -> Iterator[Bench]:
    events: list[Event] = []
    manager: Any = Looking()
    made = Bench(manager, Engine(EngineOptions(preview_ms=0, trace=False), events.append, manager=manager), events)
    yield made
    made.engine.close()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' scheduler, numpy 2
@pytest.mark.parametrize("layout", ["original", "diffusers"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_file_makes_the_pipelines_picture(kind: Kind, layout: str, bench: Bench, tmp_path: Path) -> None:
    parts = networks(kind)
    if layout == "original":
        path = write_original(kind, parts, tmp_path / f"{kind.name}.safetensors")
    else:
        path = write_folder(kind, parts, tmp_path / kind.name)
    wanted = plan(path, kind, schedule="karras" if kind.edm else "normal")
    if kind.guided:
        wanted = replace(wanted, cfg_scale=1.0, distilled_cfg_scale=CFG)
    bench.engine.submit("job", wanted)
    bench.run()
    assert not bench.of("job", Failed), bench.of("job", Failed)
    assert bench.of("job", Completed)
    manager: Any = bench.manager
    (ours,) = manager.decoded
    (model,) = manager.backbones
    assert model.info.layout == layout
    assert model.info.variant == kind.variant
    noise = PictureNoise(1, (1, 4, SIZE[0] // 8, SIZE[1] // 8), (1.0, 0.0)).initial()
    theirs = picture(kind, parts, noise, prompt=PROMPT, negative=NEGATIVE, steps=STEPS, cfg_scale=CFG)
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-4


def test_pictures_with_unequal_prompts_share_passes(bench: Bench, tmp_path: Path) -> None:
    kind = SDXL
    path = write_original(kind, networks(kind), tmp_path / "a.safetensors")
    manager: Any = bench.manager
    prompts = (PROMPT, ", ".join(["a red apple"] * 20), "")
    for name, prompt in enumerate(prompts):
        bench.engine.submit(f"alone {name}", plan(path, kind, prompt=prompt))
        bench.run()
    alone = list(manager.decoded)
    manager.decoded.clear()
    passes: list[int] = []
    (model,) = manager.backbones
    denoise = model.denoise

    def counted(batch: Batch) -> Tensor:
        passes.append(len(batch.x))
        answer: Tensor = denoise(batch)
        return answer

    model.denoise = counted
    for name, prompt in enumerate(prompts):
        bench.engine.submit(f"together {name}", plan(path, kind, prompt=prompt))
    bench.run()
    assert max(passes) == 6
    assert len(manager.decoded) == len(alone) == 3
    for one in manager.decoded:
        assert min(float((one - other).abs().max()) for other in alone) < 1e-4


def test_an_interrupt_ends_a_picture_between_steps(bench: Bench, tmp_path: Path) -> None:
    kind = SDXL
    path = write_original(kind, networks(kind), tmp_path / "a.safetensors")
    bench.engine.submit("job", plan(path, kind, steps=40))
    for _ in range(8):
        bench.engine.tick()
    bench.engine.interrupt("job")
    bench.run()
    assert bench.of("job", Interrupted)
    assert not bench.of("job", Failed)
