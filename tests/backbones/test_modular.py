"""Folders of diffusers' modular pipelines: their own pictures, and what is refused of them."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ModularPipeline

from modules.backbones.diffusers_adapter import GenericPipeline, load_pipeline
from modules.backbones.modular import load_modular
from modules.backbones.pipeline_folder import look_into
from modules.core.checkpoint import Defaults, ModelInfo, read_header
from modules.core.errors import CorruptCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
from tests.backbones.pipelines.modular import write_anima
from tests.engine.small import placement, plan

SIDE = 64

# A library's own use of another one's old names is nothing that we could change
pytestmark = [
    pytest.mark.usefixtures("no_network"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers"),
]


@pytest.fixture(scope="module")
def anima(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_anima(tmp_path_factory.mktemp("anima"))


@pytest.fixture
def copy(anima: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(anima.parent, tmp_path / "mine")) / anima.name


def loaded(index: Path) -> GenericPipeline:
    info = ModelInfo(
        name=index.parent.name, path=str(index), family="diffusers", label="Anima", supported=True,
        defaults=Defaults(sampler="euler", schedule="karras"),
    )  # fmt: skip
    return load_pipeline(info, placement())


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_it_makes_the_pipelines_own_picture(anima: Path) -> None:
    model = loaded(anima)
    steps: list[tuple[int, int]] = []
    notices: list[str] = []
    wanted = plan(family="diffusers", negative_prompt="blue pear", steps=3, seeds=(7,), cfg_scale=3.0)
    ours = model.run(wanted, lambda step, of: steps.append((step, of)), notices.append)
    own: Any = ModularPipeline.from_pretrained(str(anima.parent), local_files_only=True)
    own.load_components(dtype=torch.float32)
    own.update_components(guider=own.guider.new(guidance_scale=3.0))
    theirs = own(
        prompt="a red apple", negative_prompt="blue pear", num_inference_steps=3, width=SIDE, height=SIDE,
        output_type="np", generator=torch.Generator().manual_seed(7), output="images",
    )[0]  # fmt: skip
    assert ours.shape == (3, SIDE, SIDE)
    assert (ours - torch.from_numpy(theirs).permute(2, 0, 1)).abs().max() < 1e-4
    assert ours.std() > 1e-3
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert notices == []
    assert model.weight_bytes > 10_000

    def stop(step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.run(wanted, stop, notices.append)
    assert torch.equal(model.run(wanted, lambda step, of: None, notices.append), ours)
    model.close()


def test_parts_that_are_brought_by_turns_make_the_same(anima: Path) -> None:
    """On the CPU there is nothing to bring: the ways are those of a device."""
    pipeline = load_modular(anima.parent, None, torch.float32)
    size: dict[str, Any] = {"width": SIDE, "height": SIDE, "output_type": "np"}

    def picture() -> Any:
        made = pipeline(
            prompt="a red apple", num_inference_steps=1, **size, generator=torch.Generator().manual_seed(7)
        )[0]
        pipeline.maybe_free_model_hooks()
        return made

    whole = picture()
    for bring in (pipeline.enable_model_cpu_offload, pipeline.enable_sequential_cpu_offload):
        bring(torch.device("cpu"))
        assert (picture() == whole).all()
        pipeline.remove_all_hooks()
        assert not any(hasattr(part, "_hf_hook") for part in pipeline.components["transformer"].modules())
    assert (picture() == whole).all()


def test_what_is_missing_or_unsafe_is_named(copy: Path) -> None:
    assert {"vae", "text_conditioner"} <= read_header(copy).configs.keys()
    kept = copy.read_text()
    changed(copy, _blocks_class_name="BlocksOfMine")
    with pytest.raises(UnsafeCheckpoint, match="blocks of its pipeline"):
        look_into(copy)
    changed(copy, _class_name="WanModularPipeline")
    with pytest.raises(UnsupportedCheckpoint, match="makes videos"):
        look_into(copy)
    changed(copy, _class_name="FluxModularPipeline", _blocks_class_name="WanBlocks")
    with pytest.raises(UnsupportedCheckpoint, match="no pictures from text alone"):
        look_into(copy)
    copy.write_text(kept)
    place = {"pretrained_model_name_or_path": "someone/anima", "subfolder": "vae", "type_hint": ["theirs", "Vae"]}
    changed(copy, vae=["diffusers", "AutoencoderKLQwenImage", place])
    with pytest.raises(UnsafeCheckpoint, match="its vae is code"):
        look_into(copy)
    copy.write_text(kept.replace('"subfolder": "vae"', '"subfolder": "elsewhere"'))
    with pytest.raises(CorruptCheckpoint, match="its vae is not in the folder"):
        loaded(copy)
    copy.write_text(kept)
    (copy.parent / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptCheckpoint, match="tokenizer"):
        loaded(copy)
    shutil.rmtree(copy.parent / "vae")
    with pytest.raises(CorruptCheckpoint, match="folder vae is missing"):
        loaded(copy)


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_as_it_is_published_it_asks_for_torchvision(tmp_path: Path) -> None:
    model = loaded(write_anima(tmp_path, padded=True))
    with pytest.raises(UnsupportedCheckpoint, match="Anima needs torchvision"):
        model.run(plan(family="diffusers", steps=1), lambda step, of: None, lambda text: None)
