"""The generic adapter against diffusers' own pipelines, on real ones at tiny size."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import diffusers
import pytest
import torch

from modules.backbones.diffusers_adapter import GenericPipeline, load_pipeline
from modules.core.checkpoint import Defaults, ModelInfo
from modules.diffusion.backbone import Whole
from tests.backbones.pipelines import BUILDERS, write_pipeline
from tests.engine.small import placement, plan

SIDE = 64

# A library's own use of another one's old names is nothing that we could change
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*values: object) -> NoReturn:
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model_index.json by pipeline."""
    return {name: write_pipeline(name, tmp_path_factory.mktemp(name)) for name in BUILDERS}


def info(index: Path, **values: Any) -> ModelInfo:
    return ModelInfo(
        name=index.parent.name, path=str(index), family="diffusers", label="Sana", supported=True,
        defaults=Defaults(sampler="euler", schedule="karras", **values),
    )  # fmt: skip


def loaded(index: Path) -> GenericPipeline:
    return load_pipeline(info(index), placement())


@pytest.mark.parametrize("name", BUILDERS)
def test_it_makes_the_pipelines_own_picture(folders: dict[str, Path], name: str) -> None:
    model = loaded(folders[name])
    assert isinstance(model, Whole)
    steps: list[tuple[int, int]] = []
    notices: list[str] = []
    wanted = plan(family="diffusers", negative_prompt="blue pear", steps=3, seeds=(7,), cfg_scale=3.0)
    ours = model.run(wanted, lambda step, of: steps.append((step, of)), notices.append)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(str(folders[name].parent), local_files_only=True)
    own = {"negative_prompt": "blue pear"} if name != "klein" else {}
    if name in ("sana", "pixart"):
        own["use_resolution_binning"] = False  # type: ignore[assignment]
    theirs = pipeline(
        prompt="a red apple", num_inference_steps=3, guidance_scale=3.0, width=SIDE, height=SIDE, output_type="pt",
        generator=torch.Generator().manual_seed(7), **own,
    ).images[0]  # fmt: skip
    assert ours.shape == (3, SIDE, SIDE)
    assert (ours - theirs).abs().max() < 1e-4
    assert ours.std() > 1e-3
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert notices == (["This model takes no negative prompt: it is not used."] if name == "klein" else [])
