"""Pictures of models that cannot be stepped, in the real engine: events, interrupt, errors, and company."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from modules.core.generation import FileRef, GenerationPlan, ModelChoice
from modules.core.job import Completed, EngineOptions, Event, Failed, ImageReady, Interrupted, Notice, Started, Step
from modules.diffusion.backbone import Backbone
from modules.engine.engine import Engine
from modules.engine.estimate import Work
from modules.engine.manager import ModelManager
from modules.engine.whole import NOT_KEPT
from tests.backbones.pipelines import write_pipeline
from tests.engine.small import Bench, Delivered, SmallBackbone, SmallManager, bench, plan

OnStep = Callable[[str, int], None]


class WholeBackbone(SmallBackbone):
    """Makes even pictures by itself, of a grey that follows the seed. on_step(checkpoint, step) comes before a step is
    told."""

    on_step: OnStep | None = None

    def run(self, plan: GenerationPlan, stepped: Callable[[int, int], None], notice: Callable[[str], None]) -> Tensor:
        notice("there is no sampler")
        for step in range(1, plan.steps + 1):
            if self.on_step is not None:
                self.on_step(self.key.checkpoint, step)
            stepped(step, plan.steps)
        grey = torch.full((3, plan.height, plan.width), plan.seeds[0] / 255)
        return grey * float("nan") if self._fails("denoise", self.key.dtype == "float32") else grey

    def upcast(self) -> Backbone:
        found = WholeBackbone(replace(self.key, dtype="float32"), broken=self.broken)
        found.on_step = self.on_step
        return found


@dataclass
class WholeManager(SmallManager):
    """Brings a WholeBackbone for checkpoints named "whole ..."."""

    on_step: OnStep | None = None

    def bring(self, choice: ModelChoice, work: Work | None = None) -> Delivered:
        key = self.key(choice)
        if choice.checkpoint.name.startswith("whole") and key not in self.models:
            made = WholeBackbone(key, broken=self.broken)
            made.on_step = self.on_step
            self.models[key] = made
        return super().bring(choice, work)


def whole(**values: object) -> GenerationPlan:
    return plan(**{"model": "whole", "family": "diffusers", **values})


def greys(job: str, on: Bench) -> list[int]:
    return [Image.open(io.BytesIO(e.payload)).getpixel((0, 0))[0] for e in on.of(job, ImageReady)]  # type: ignore[index]


def test_a_job_of_several_pictures() -> None:
    b = bench(WholeManager())
    b.engine.submit("a", whole(seeds=(10, 20, 30), batch_size=2))
    b.run()
    assert greys("a", b) == [10, 20, 30]
    assert [e.seed for e in b.of("a", Started)] == [10, 20, 30]  # type: ignore[attr-defined]
    steps = [(e.index, e.step, e.steps) for e in b.of("a", Step)]  # type: ignore[attr-defined]
    assert steps == [(index, step, 5) for index in range(3) for step in range(1, 6)]
    assert isinstance(b.of("a")[-1], Completed)
    # What the model leaves of a plan is said once per job
    assert [e.text for e in b.of("a", Notice)] == ["Picture 1: there is no sampler"]  # type: ignore[attr-defined]


def test_an_interrupt_ends_it_within_a_step() -> None:
    b = bench(
        WholeManager(on_step=lambda model, step: b.engine.interrupt("a") if step == 3 else None), keep_partial=True
    )
    b.engine.submit("a", whole(seeds=(1, 2)))
    b.run()
    assert [e.step for e in b.of("a", Step)] == [1, 2]  # type: ignore[attr-defined]
    assert isinstance(b.of("a")[-1], Interrupted)
    assert not b.of("a", ImageReady)
    assert any(NOT_KEPT in e.text for e in b.of("a", Notice))  # type: ignore[attr-defined]
    b.manager.models[next(iter(b.manager.models))].on_step = None  # type: ignore[attr-defined]
    b.engine.submit("b", whole(seeds=(3,)))
    b.run()
    assert greys("b", b) == [3]


def test_the_engine_is_busy_meanwhile() -> None:
    seen: list[str] = []
    b = bench(WholeManager(on_step=lambda model, step: seen.append(b.engine.status().state)))
    b.engine.submit("a", whole())
    b.run()
    assert seen == ["busy"] * 5
    assert b.engine.status().state == "idle"


def test_skip_goes_on_with_the_next_picture() -> None:
    seen: list[int] = []

    def on_step(model: str, step: int) -> None:
        seen.append(step)
        if len(seen) == 2:
            b.engine.skip("a")

    b = bench(WholeManager(on_step=on_step))
    b.engine.submit("a", whole(seeds=(1, 2)))
    b.run()
    assert greys("a", b) == [2]
    assert seen == [1, 2, 1, 2, 3, 4, 5]
    assert isinstance(b.of("a")[-1], Completed)


def test_closing_ends_it_within_a_step() -> None:
    seen: list[int] = []

    def on_step(model: str, step: int) -> None:
        seen.append(step)
        b.engine._closing = True

    b = bench(WholeManager(on_step=on_step))
    b.engine.submit("a", whole())
    b.engine.tick()
    assert seen == [1]
    b.engine.close()
    assert isinstance(b.of("a")[-1], Failed)


def test_an_error_is_its_own_jobs() -> None:
    def on_step(model: str, step: int) -> None:
        if model == "whole b":
            raise ValueError("height must be divisible by 16")

    b = bench(WholeManager(on_step=on_step))
    b.engine.submit("a", whole(model="whole a", seeds=(9,)))
    b.engine.submit("b", whole(model="whole b"))
    b.run()
    assert greys("a", b) == [9]
    failed = b.of("b")[-1]
    assert isinstance(failed, Failed)
    assert "divisible by 16" in failed.message


def test_it_takes_turns_with_models_that_are_stepped() -> None:
    b = bench(WholeManager())
    b.engine.submit("a", whole(seeds=(1, 2)))
    b.engine.submit("b", plan(seeds=(1,)))
    b.run()
    alone = bench(SmallManager())
    alone.engine.submit("b", plan(seeds=(1,)))
    alone.run()
    assert len(b.of("a", ImageReady)) == 2
    assert b.picture("b") == alone.picture("b")


def test_nan_is_made_again_in_float32() -> None:
    b = bench(WholeManager(dtype="bfloat16", broken=("denoise",)))
    b.engine.submit("a", whole(seeds=(77,)))
    b.run()
    assert greys("a", b) == [77]
    assert any("float32" in e.text for e in b.of("a", Notice))  # type: ignore[attr-defined]
    b = bench(WholeManager(broken=("always",)))
    b.engine.submit("a", whole(seeds=(77,)))
    b.run()
    assert isinstance(b.of("a")[-1], Failed)


def test_a_stepped_model_is_not_run_whole() -> None:
    b = bench(SmallManager())
    b.engine.submit("a", plan(family="diffusers"))
    b.run()
    failed = b.of("a")[-1]
    assert isinstance(failed, Failed)
    assert "Order the picture again" in failed.hint


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
@pytest.mark.parametrize("name", ["aura_flow", "klein"])
def test_a_folder_goes_through_catalog_and_engine_without_a_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    index = write_pipeline(name, tmp_path / "tiny")
    events: list[Event] = []
    options = EngineOptions(device="cpu")
    engine = Engine(options, events.append, manager=ModelManager(options))
    file = FileRef(name="tiny", path=str(index))
    for job, seeds in (("a", (5, 6)), ("b", (7,))):
        order = plan(
            checkpoint=file, family="diffusers", steps=4, seeds=seeds, cfg_scale=3.0, negative_prompt="",
            sampler="euler", schedule="automatic",
        )  # fmt: skip
        engine.submit(job, order)
    while engine.tick():
        pass
    assert engine.settle(30)
    assert not [event for event in events if isinstance(event, Failed | Notice)]
    pipeline = diffusers.DiffusionPipeline.from_pretrained(str(index.parent), local_files_only=True)
    made = [e for e in events if isinstance(e, ImageReady)]
    assert len(made) == 3
    for event in made:
        theirs = pipeline(
            prompt="a red apple", num_inference_steps=4, guidance_scale=3.0, width=64, height=64, output_type="np",
            generator=torch.Generator().manual_seed(event.seed),
        ).images[0]  # fmt: skip
        ours = np.asarray(Image.open(io.BytesIO(event.payload)), dtype=np.float32) / 255
        assert np.abs(ours - theirs).max() <= 0.5 / 255 + 1e-4
    steps = [(e.index, e.step) for e in events if isinstance(e, Step) and e.job == "a"]
    assert steps == [(i, s) for i in (0, 1) for s in (1, 2, 3, 4)]
    engine.close()
