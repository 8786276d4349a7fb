"""Z-Image and Qwen-Image from files through the engine: the latents of diffusers' own pipelines, from the same noise."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import QwenImagePipeline, ZImagePipeline
from torch import Tensor

from modules.core.checkpoint import Separate
from modules.core.generation import FileRef, GenerationPlan, ModelChoice
from modules.core.job import Completed, EngineOptions, Event, Failed, ImageReady, Interrupted
from modules.core.sampling import Schedule
from modules.diffusion.backbone import Backbone
from modules.diffusion.noise import PictureNoise
from modules.engine.engine import Engine
from modules.engine.manager import ModelManager
from modules.prompting.qwen import SPECIAL, SPECIAL_QWEN3, QwenTokenizer
from tests import tiny_qwens as tiny
from tests.engine.small import Bench, plan
from tests.engine.test_engine import latents_of

SIGMAS = (1.0, 0.9, 0.72, 0.45, 0.2, 0.0)
GIVEN = Schedule(name="given", label="Given", run=lambda steps, levels: SIGMAS[-steps - 1 :])
WIDTH, HEIGHT = 80, 64
FAMILIES = ("z_image", "qwen_image")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may ask anybody for anything."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


class Tokens(dict[str, Tensor]):
    """What a tokenizer of transformers answers."""

    def __getattr__(self, name: str) -> Tensor:
        return self[name]

    def to(self, device: object) -> Tokens:
        return self


class Tokenizer:
    """What diffusers' pipelines need of a tokenizer, by the bundled one."""

    def __init__(self, special: tuple[str, ...]) -> None:
        self._own = QwenTokenizer.load(special)

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        return f"<|im_start|>user\n{messages[0]['content']}<|im_end|>\n<|im_start|>assistant\n"

    def __call__(self, texts: list[str], *, max_length: int, padding: object, **_: object) -> Tokens:
        rows = [self._own.ids(text)[:max_length] for text in texts]
        length = max_length if padding == "max_length" else max(map(len, rows))
        ids = torch.tensor([(*row, *[0] * (length - len(row))) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        return Tokens(input_ids=ids, attention_mask=mask)


def pipeline_of(model: tiny.TinyQwen) -> Any:
    """diffusers' own, of the very networks that the files were written from."""
    special = SPECIAL_QWEN3 if model.family == "z_image" else SPECIAL
    kind = ZImagePipeline if model.family == "z_image" else QwenImagePipeline
    made = kind(**model.parts, scheduler=tiny.flow_euler(), tokenizer=Tokenizer(special))
    made.set_progress_bar_config(disable=True)
    return made


@torch.inference_mode()
def their_latent(model: tiny.TinyQwen, order: GenerationPlan) -> Tensor:
    """What diffusers makes of a plan, from the noise that the plan asks for: (1, 16, h, w)."""
    pipeline = pipeline_of(model)
    shape = (1, tiny.LATENT, HEIGHT // 8, WIDTH // 8)
    x = PictureNoise(order.seeds[0], shape, SIGMAS, CPU).initial()
    told: dict[str, Any] = {
        "prompt": order.prompt, "negative_prompt": order.negative_prompt, "width": WIDTH, "height": HEIGHT,
        "sigmas": list(SIGMAS[:-1]), "num_inference_steps": 5, "output_type": "latent",
    }  # fmt: skip
    if model.family == "z_image":
        return pipeline(**told, guidance_scale=order.cfg_scale - 1, latents=x).images  # type: ignore[no-any-return]
    packed = pipeline._pack_latents(x, *shape)
    answer = pipeline(**told, true_cfg_scale=order.cfg_scale, latents=packed).images
    return pipeline._unpack_latents(answer, HEIGHT, WIDTH, 8).squeeze(2)  # type: ignore[no-any-return]


@dataclass
class Workshop:
    """A real engine with a real manager over the files in a folder."""

    bench: Bench
    manager: ModelManager

    def latents(self, *orders: GenerationPlan) -> list[Tensor]:
        """Run plans of one picture each side by side."""
        found = latents_of(self.bench)
        for number, order in enumerate(orders):
            self.bench.engine.submit(str(number), order)
        self.bench.run()
        assert not [event for event in self.bench.events if isinstance(event, Failed)], self.bench.events
        return [found[str(number), 0] for number in range(len(orders))]


def workshop_of(**options: Any) -> Workshop:
    chosen = EngineOptions(device="cpu", preview_ms=0, trace=False, **options)
    manager, events = ModelManager(chosen), list[Event]()
    engine = Engine(chosen, events.append, manager=manager, schedules={"given": GIVEN})
    return Workshop(Bench(manager, engine, events), manager)  # type: ignore[arg-type]


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    made = workshop_of()
    yield made
    made.bench.engine.close()


@pytest.fixture(scope="module")
def models() -> dict[str, tiny.TinyQwen]:
    return {family: tiny.tiny_model(family) for family in FAMILIES}


@dataclass(frozen=True)
class Files:
    """A model's files, by family."""

    checkpoint: FileRef
    separate: Separate[FileRef]


@pytest.fixture(scope="module")
def files(models: dict[str, tiny.TinyQwen], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    return {name: Files(*model.write(tmp_path_factory.mktemp(name))) for name, model in models.items()}


def order_of(files: Files, family: str, **values: Any) -> GenerationPlan:
    told: dict[str, Any] = {
        "checkpoint": files.checkpoint, "text_encoder": files.separate.text_encoder, "vae": files.separate.vae,
        "family": family, "prompt": "a red apple on a table", "negative_prompt": "blue", "schedule": "given",
        "sampler": "euler", "steps": 5, "width": WIDTH, "height": HEIGHT, "cfg_scale": 1.0,
    }  # fmt: skip
    return plan(**{**told, **values})


def brought(workshop: Workshop, files: Files) -> Backbone:
    return workshop.manager.bring(ModelChoice(checkpoint=files.checkpoint, separate=files.separate)).backbone


@pytest.mark.parametrize(("family", "scale"), [("z_image", 1.0), ("z_image", 4.0), ("qwen_image", 1.0)])
def test_published_files_give_the_pipelines_latent(
    family: str, scale: float, models: dict[str, tiny.TinyQwen], files: dict[str, Files], workshop: Workshop
) -> None:
    order = order_of(files[family], family, cfg_scale=scale)
    (ours,) = workshop.latents(order)
    torch.testing.assert_close(ours, their_latent(models[family], order), atol=1e-4, rtol=0)
