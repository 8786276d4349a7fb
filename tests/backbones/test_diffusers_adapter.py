"""The generic adapter against diffusers' own pipelines, on real ones at tiny size."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import diffusers
import pytest
import torch

from modules.backbones.diffusers_adapter import GenericPipeline, as_picture, diffusers_adapter, load_pipeline
from modules.backbones.pipeline_call import NO_AND, NO_EDITING, NO_WEIGHTS, plain_text
from modules.core.checkpoint import Defaults, ModelInfo, Separate
from modules.core.errors import CorruptCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
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


def silent(step: int, steps: int) -> None:
    """Nobody counts."""


def unheard(text: str) -> None:
    """Nobody is told."""


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A model_index.json to be spoiled."""
    return Path(shutil.copytree(folders["aura_flow"].parent, tmp_path / "mine")) / "model_index.json"


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_it_cannot_do_is_told(folders: dict[str, Path]) -> None:
    notices: list[str] = []
    wanted = plan(
        family="diffusers", prompt="(a:1.3) red [apple:pear:1] AND blue", sampler="heun", schedule="simple", steps=3,
        clip_skip=2, tiling=True, shift=3.0, seed_resize=(64, 128), noise_source="NV", distilled_cfg_scale=2.0,
        variation_seeds=(1,), variation_strength=0.5, guidance={"apg": {"eta": 0.5}}, discard_penultimate=True,
    )  # fmt: skip
    loaded(folders["aura_flow"]).run(wanted, silent, notices.append)
    told = " ".join(notices)
    for said in (
        NO_AND, NO_EDITING, NO_WEIGHTS, "sampler heun", "schedule simple", "shift", "clip skip 2", "tiling",
        "variation seed", "own size", "NV", "apg", "noise level", "distilled CFG",
    ):  # fmt: skip
        assert said in told, said


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a cat", "a cat"),
        ("a (red:1.2) cat", "a red cat"),
        (r"a \(red\) cat", "a (red) cat"),
        ("a BREAK cat", "a cat"),
        ("[dog:cat:3] here", "dog here"),
        ("one AND two :0.5", "one, two"),
        ("a cat <lora:x:1>", "a cat"),
    ],
)
def test_prompts_lose_their_grammar(text: str, plain: str) -> None:
    assert plain_text(text, "Original", 10)[0] == plain
    assert plain_text("(a) [b]", "None", 10) == ("(a) [b]", [])


def test_steps_are_counted_where_a_pipeline_calls_nobody_back(folders: dict[str, Path]) -> None:
    class Silent(diffusers.AuraFlowPipeline):  # type: ignore[misc]
        def __call__(self, prompt: str, num_inference_steps: int, generator: Any, return_dict: bool) -> Any:
            return super().__call__(
                prompt, num_inference_steps=num_inference_steps, generator=generator, return_dict=return_dict,
                width=SIDE, height=SIDE,
            )  # fmt: skip

    whole = diffusers.DiffusionPipeline.from_pretrained(str(folders["aura_flow"].parent), local_files_only=True)
    model = GenericPipeline(info(folders["aura_flow"]), placement(), Silent(**whole.components))
    steps: list[int] = []
    notices: list[str] = []
    wanted = plan(family="diffusers", steps=3, width=128, height=64)
    picture = model.run(wanted, lambda step, of: steps.append(step), notices.append)
    assert steps == [1, 2, 3]
    assert picture.shape == (3, SIDE, SIDE)
    assert any("128 x 64" in text and "64 x 64" in text for text in notices)
    assert "step" not in vars(whole.scheduler)


def test_whatever_the_step_raises_ends_the_picture_and_the_next_is_whole(folders: dict[str, Path]) -> None:
    model = loaded(folders["aura_flow"])
    wanted = plan(family="diffusers", steps=3)
    before = model.run(wanted, silent, unheard)

    def stop(step: int, steps: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.run(wanted, stop, unheard)
    assert torch.equal(model.run(wanted, silent, unheard), before)
    assert not torch.equal(model.run(plan(family="diffusers", steps=3, seeds=(2,)), silent, unheard), before)


def test_a_picture_without_room_is_made_with_less_of_the_model_there(folders: dict[str, Path]) -> None:
    """Without a device nothing is moved: what is asked of diffusers is recorded."""
    asked: list[str] = []

    class Short(diffusers.AuraFlowPipeline):  # type: ignore[misc]
        def to(self, *values: Any, **named: Any) -> Any:
            asked.append(f"to {values[0]}")
            return self

        def enable_model_cpu_offload(self, *values: Any, **named: Any) -> None:
            asked.append("parts")

        def enable_sequential_cpu_offload(self, *values: Any, **named: Any) -> None:
            asked.append("layers")

        def __call__(self, prompt: str, **named: Any) -> Any:
            asked.append("call")
            if asked.count("call") < 3:
                raise torch.OutOfMemoryError("out of memory")
            return (torch.zeros(1, 3, named.get("height", SIDE), SIDE),)

    whole = diffusers.DiffusionPipeline.from_pretrained(str(folders["aura_flow"].parent), local_files_only=True)
    device = replace(placement(), unet_device=torch.device("cuda"), device=torch.device("cuda"))
    model = GenericPipeline(info(folders["aura_flow"]), device, Short(**whole.components))
    notices: list[str] = []
    model.run(plan(family="diffusers", negative_prompt=""), silent, notices.append)
    assert asked == ["to cuda", "call", "to cpu", "parts", "call", "to cpu", "layers", "call"]
    assert sum("too little memory" in text for text in notices) == 2
    assert whole.vae.use_tiling

    asked.clear()
    with pytest.raises(torch.OutOfMemoryError):
        model.run(plan(family="diffusers", negative_prompt=""), silent, notices.append)


def test_it_is_refused_what_only_stepped_models_do(folders: dict[str, Path]) -> None:
    model = loaded(folders["aura_flow"])
    with pytest.raises(UnsupportedCheckpoint, match="stepped"):
        model.encode(["a"], 1)
    with pytest.raises(UnsupportedCheckpoint, match="no other vae"):
        diffusers_adapter.load(model.info, Separate(vae=model.info), placement())
    assert model.weight_bytes > 10_000
    twin = model.upcast()
    model.close()
    assert twin.run(plan(family="diffusers", steps=1), silent, unheard).isfinite().all()


def test_float16_and_other_names_of_weights(copy: Path) -> None:
    for path in copy.parent.glob("*/*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    model = load_pipeline(info(copy), placement(torch.bfloat16))
    assert {part.dtype for part in model._parts} == {torch.bfloat16}
    assert model.run(plan(family="diffusers", steps=1), silent, unheard).isfinite().all()


def test_nothing_unsafe_is_loaded(copy: Path) -> None:
    kept = copy.read_text()
    changed(copy, _class_name=["pipeline", "MyPipeline"])
    with pytest.raises(UnsafeCheckpoint, match="code of its own"):
        load_pipeline(info(copy), placement())
    copy.write_text(kept)
    changed(copy, transformer=["my_code", "MyTransformer"])
    with pytest.raises(UnsafeCheckpoint, match="transformer is code"):
        load_pipeline(info(copy), placement())
    copy.write_text(kept)
    changed(copy.parent / "text_encoder" / "config.json", auto_map={"AutoModel": "code.Mine"}, architectures=["Mine"])
    with pytest.raises(UnsafeCheckpoint, match="auto_map"):
        load_pipeline(info(copy), placement())
    weights = next((copy.parent / "vae").glob("*.safetensors"))
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    changed(copy.parent / "text_encoder" / "config.json", architectures=["UMT5EncoderModel"])
    with pytest.raises(UnsafeCheckpoint, match=r"vae/diffusion_pytorch_model\.bin is a pickle"):
        load_pipeline(info(copy), placement())


def test_what_is_broken_is_named(copy: Path) -> None:
    kept = copy.read_text()
    changed(copy, _class_name="PaintPipeline")
    with pytest.raises(UnsupportedCheckpoint, match="PaintPipeline, which diffusers"):
        load_pipeline(info(copy), placement())
    changed(copy, _class_name="DDPMPipeline")
    with pytest.raises(UnsupportedCheckpoint, match="text alone"):
        load_pipeline(info(copy), placement())
    copy.write_text(kept)
    weights = next((copy.parent / "transformer").glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(CorruptCheckpoint, match="truncated"):
        load_pipeline(info(copy), placement())
    weights.write_bytes(whole)
    (copy.parent / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(CorruptCheckpoint, match="tokenizers"):
        load_pipeline(info(copy), placement())
    shutil.rmtree(copy.parent / "vae")
    with pytest.raises(CorruptCheckpoint, match="folder vae is missing"):
        load_pipeline(info(copy), placement())
    copy.write_text("{")
    with pytest.raises(CorruptCheckpoint, match=r"model_index\.json"):
        load_pipeline(info(copy), placement())


def test_answers_of_every_kind_become_one(folders: dict[str, Path]) -> None:
    from PIL import Image

    red = torch.zeros(1, 3, 2, 4)
    red[:, 0] = 1
    array = red.permute(0, 2, 3, 1).numpy()
    for answer in (red, array, [Image.fromarray((array[0] * 255).astype("uint8"))]):
        assert torch.equal(as_picture(answer), red[0])
