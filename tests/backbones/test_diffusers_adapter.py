"""The generic adapter against diffusers' own pipelines, on real ones at tiny size."""

from __future__ import annotations

import json
import shutil
from collections import UserDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from modules.backbones.diffusers_adapter import GenericPipeline, as_picture, diffusers_adapter, load_pipeline
from modules.backbones.pipeline_call import NO_AND, NO_EDITING, NO_WEIGHTS, arguments, parameters, plain_text
from modules.backbones.pipeline_folder import missing_packages, refused
from modules.core.checkpoint import Defaults, ModelInfo, Separate
from modules.core.errors import CorruptCheckpoint, EngineError, UnsafeCheckpoint, UnsupportedCheckpoint
from modules.diffusion.backbone import Whole
from tests.backbones.pipelines import BUILDERS, write_pipeline
from tests.backbones.pipelines.by_language_model import cascade
from tests.engine.small import placement, plan

SIDE = 64

# A library's own use of another one's old names is nothing that we could change
pytestmark = [
    pytest.mark.usefixtures("no_network"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers"),
]


class Folders(UserDict[str, Path]):
    """A model_index.json by pipeline, written when it is first asked for."""

    def __init__(self, below: Path) -> None:
        super().__init__()
        self._below = below

    def __missing__(self, name: str) -> Path:
        self[name] = write_pipeline(name, self._below / name)
        return self[name]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("pipelines"))


def info(index: Path, **values: Any) -> ModelInfo:
    return ModelInfo(
        name=index.parent.name, path=str(index), family="diffusers", label="Sana", supported=True,
        defaults=Defaults(sampler="euler", schedule="karras", **values),
    )  # fmt: skip


def loaded(index: Path) -> GenericPipeline:
    return load_pipeline(info(index), placement())


# What a pipeline's own call is given beside what all are given: where it has the size, no text but the one that was
# written, and no rule for another number of steps
_NO_NEGATIVE = ("klein", "flux2", "sana_sprint")
_OWN: dict[str, dict[str, Any]] = {
    "hunyuan_dit": {"use_resolution_binning": False},
    "hunyuan_image": {},
    "hunyuan_image_distilled": {"distilled_guidance_scale": 2.0},
    "longcat": {"enable_prompt_rewrite": False},
    "pixart": {"use_resolution_binning": False},
    "pixart_alpha": {"use_resolution_binning": False},
    "prx": {"use_resolution_binning": False},
    "sana": {"use_resolution_binning": False},
    "sana_sprint": {"use_resolution_binning": False, "intermediate_timesteps": None},
}


@pytest.mark.parametrize("name", BUILDERS)
def test_it_makes_the_pipelines_own_picture(folders: Folders, name: str) -> None:
    model = loaded(folders[name])
    assert isinstance(model, Whole)
    steps: list[tuple[int, int]] = []
    notices: list[str] = []
    wanted = plan(
        family="diffusers", negative_prompt="blue pear", steps=3, seeds=(7,), cfg_scale=3.0,
        distilled_cfg_scale=2.0 if name == "hunyuan_image_distilled" else None,
    )  # fmt: skip
    ours = model.run(wanted, lambda step, of: steps.append((step, of)), notices.append)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(str(folders[name].parent), local_files_only=True)
    own = dict(_OWN.get(name, {}))
    if name not in _NO_NEGATIVE:
        own["negative_prompt"] = "blue pear"
    if name == "hunyuan_image":
        pipeline.guider = pipeline.guider.new(guidance_scale=3.0)
    if not name.startswith("hunyuan_image"):
        own["guidance_scale"] = 3.0
    theirs = pipeline(
        prompt="a red apple", num_inference_steps=3, width=SIDE, height=SIDE, output_type="np",
        generator=torch.Generator().manual_seed(7), **own,
    )[0][0]  # fmt: skip
    assert ours.shape == (3, SIDE, SIDE)
    assert (ours - torch.from_numpy(theirs).permute(2, 0, 1)).abs().max() < 1e-4
    assert ours.std() > 1e-3
    assert ours.min() >= 0
    assert steps == [(1, 3), (2, 3), (3, 3)]
    told = dict.fromkeys(_NO_NEGATIVE, "no negative prompt") | {"hunyuan_image_distilled": "no CFG scale"}
    assert len(notices) == (name in told)
    assert all(told[name] in notice for notice in notices)


def taken(pipeline: str, **values: Any) -> Mapping[str, Any]:
    """The arguments of a call of a pipeline's class for a plan."""
    called = parameters(getattr(diffusers, f"{pipeline}Pipeline").__call__)
    return arguments(called, plan(family="diffusers", **values), Defaults()).values


def test_no_other_text_is_made_of_the_prompt() -> None:
    for pipeline, argument in (
        ("ErnieImage", "use_pe"), ("LongCatImage", "enable_prompt_rewrite"), ("Ideogram4", "prompt_upsampling"),
        ("PixArtSigma", "clean_caption"),
    ):  # fmt: skip
        assert taken(pipeline)[argument] is False


def test_scales_and_steps_have_many_names() -> None:
    ideogram = taken("Ideogram4", cfg_scale=5.0)
    assert (ideogram["guidance_scale"], ideogram["guidance_schedule"]) == (5.0, None)
    assert "guidance_schedule" not in taken("Sana")
    assert taken("QwenImage21", cfg_scale=5.0)["true_cfg_scale"] == 5.0
    assert taken("StableCascadeCombined", cfg_scale=5.0)["prior_guidance_scale"] == 5.0
    assert "intermediate_timesteps" not in taken("SanaSprint", steps=2)  # its own
    assert taken("UnCLIP", steps=9)["decoder_num_inference_steps"] == 9


def test_all_stages_are_counted_and_each_is_stopped() -> None:
    torch.manual_seed(0)
    pipeline = cascade()
    model = GenericPipeline(info(Path("cascade/model_index.json")), placement(), pipeline)
    steps: list[tuple[int, int]] = []
    wanted = plan(family="diffusers", steps=2, seeds=(7,), cfg_scale=3.0, negative_prompt="blue")
    ours = model.run(wanted, lambda step, of: steps.append((step, of)), unheard)
    assert steps == [(step, 62) for step in range(1, 63)]  # 60 are its prior's by itself
    theirs = pipeline(
        "a red apple", num_inference_steps=2, prior_guidance_scale=3.0, negative_prompt="blue", width=SIDE,
        height=SIDE, generator=torch.Generator().manual_seed(7), output_type="np",
    ).images[0]  # fmt: skip
    assert (ours - torch.from_numpy(theirs).permute(2, 0, 1)).abs().max() < 1e-4

    def stop(step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.run(wanted, stop, unheard)


def silent(step: int, steps: int) -> None:
    """Nobody counts."""


def unheard(text: str) -> None:
    """Nobody is told."""


@pytest.fixture
def copy(folders: Folders, tmp_path: Path) -> Path:
    """A model_index.json to be spoiled."""
    return Path(shutil.copytree(folders["aura_flow"].parent, tmp_path / "mine")) / "model_index.json"


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_it_cannot_do_is_told(folders: Folders) -> None:
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


def test_steps_are_counted_where_a_pipeline_calls_nobody_back(folders: Folders) -> None:
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


def test_stages_without_a_callback_are_heard_by_their_schedulers(folders: Folders) -> None:
    class Halves(diffusers.AuraFlowPipeline):  # type: ignore[misc]
        prior_scheduler: Any = diffusers.DDPMScheduler()

        def __call__(
            self, prompt: str, num_inference_steps: int, prior_num_inference_steps: int = 2, **named: Any
        ) -> Any:
            self.prior_scheduler.set_timesteps(prior_num_inference_steps)
            for time in self.prior_scheduler.timesteps:
                self.prior_scheduler.step(torch.zeros(1, 1), time, torch.zeros(1, 1))
            return super().__call__(prompt, num_inference_steps=num_inference_steps, width=SIDE, height=SIDE, **named)

    whole = diffusers.DiffusionPipeline.from_pretrained(str(folders["aura_flow"].parent), local_files_only=True)
    model = GenericPipeline(info(folders["aura_flow"]), placement(), Halves(**whole.components))
    steps: list[int] = []
    model.run(plan(family="diffusers", steps=3), lambda step, of: steps.append(step), unheard)
    assert steps == [1, 2, 3, 4, 5]
    assert "step" not in vars(Halves.prior_scheduler)


def test_what_a_pipeline_draws_unasked_follows_the_seed_and_what_it_finds_is_told(folders: Folders) -> None:
    class Dice(diffusers.AuraFlowPipeline):  # type: ignore[misc]
        def __call__(self, prompt: str, callback_on_step_end: Any, num_inference_steps: int = 4, **named: Any) -> Any:
            callback_on_step_end(self, 0, 0, {})
            return torch.rand(1, 3, SIDE, SIDE), [True]

    whole = diffusers.DiffusionPipeline.from_pretrained(str(folders["aura_flow"].parent), local_files_only=True)
    model = GenericPipeline(info(folders["aura_flow"]), placement(), Dice(**whole.components))
    before = torch.random.get_rng_state()
    notices: list[str] = []
    first = model.run(plan(family="diffusers", steps=3), silent, notices.append)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, model.run(plan(family="diffusers", steps=3), silent, unheard))
    assert not torch.equal(first, model.run(plan(family="diffusers", steps=3, seeds=(2,)), silent, unheard))
    assert any("safety checker" in text for text in notices)
    assert any("1 of 3" in text for text in notices)


def test_whatever_the_step_raises_ends_the_picture_and_the_next_is_whole(folders: Folders) -> None:
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


def test_a_picture_without_room_is_made_with_less_of_the_model_there(folders: Folders) -> None:
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
            if asked.count("call") == 1:
                raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
            if asked.count("call") == 2:
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
    with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
        model.run(plan(family="diffusers", negative_prompt=""), silent, notices.append)


def test_a_size_that_a_model_cannot_make_is_told_as_such(folders: Folders) -> None:
    with pytest.raises(EngineError, match="makes no picture of 72 x 64 pixels"):
        loaded(folders["pixart"]).run(plan(family="diffusers", steps=1, width=72), silent, unheard)


def test_it_is_refused_what_only_stepped_models_do(folders: Folders) -> None:
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


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"_class_name": "PaintPipeline"}, "PaintPipeline, which diffusers"),
        ({"_class_name": "DDPMPipeline"}, "text alone"),
        ({"_class_name": "DiTPipeline"}, "text alone: it needs class_labels"),
        ({"_class_name": "WanPipeline"}, "makes videos"),
        ({"_class_name": "StableAudioPipeline"}, "makes sounds"),
        ({"_class_name": "HunyuanImageRefinerPipeline"}, "none from text alone"),
        ({"_class_name": "StableCascadePriorPipeline"}, "one half of a model"),
        ({"_class_name": "OnnxStableDiffusionPipeline"}, "needs onnx, which is not installed"),
        ({"vae": ["wuerstchen", "PaellaVQModel"]}, "does not load any more"),
    ],
)
def test_what_makes_no_picture_here_is_named(copy: Path, values: dict[str, Any], said: str) -> None:
    changed(copy, **values)
    with pytest.raises(UnsupportedCheckpoint, match=said):
        load_pipeline(info(copy), placement())


def test_what_is_not_installed_is_named(copy: Path) -> None:
    assert missing_packages(("torch", "no-such-package")) == ["no-such-package"]
    kind = "OmniGenPipeline"
    if missing_packages(["torchvision"]):
        with pytest.raises(NameError) as caught:
            exec("transforms.resize", {"is_torchvision_available": None})
        assert "torchvision" in str(refused("mine", kind, caught.value))
        kept = copy.read_text()
        for processor in ("PixtralProcessor", "Qwen3VLProcessor"):
            changed(copy, tokenizer=["transformers", processor])
            with pytest.raises(UnsupportedCheckpoint, match=f"its tokenizer, a {processor}, needs torchvision"):
                load_pipeline(info(copy), placement())
        copy.write_text(kept)
        told = refused("mine", kind, ImportError("PixtralProcessor requires the Torchvision library"))
        assert "pip install torchvision" in str(told)
    for error in (ImportError("no name in it"), NameError("nowhere")):
        assert isinstance(refused("mine", kind, error), CorruptCheckpoint)


def test_code_that_is_named_and_not_needed_is_no_hindrance(folders: Folders, tmp_path: Path) -> None:
    """Kolors' files name code of its text encoder's authors; diffusers has the classes."""
    index = Path(shutil.copytree(folders["kolors"].parent, tmp_path / "mine")) / "model_index.json"
    changed(index.parent / "text_encoder" / "config.json", auto_map={"AutoModel": "modeling.ChatGLM"})
    changed(
        index.parent / "tokenizer" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization.GLM", None]}
    )
    assert loaded(index).weight_bytes > 1000


def test_what_is_broken_is_named(copy: Path) -> None:
    kept = copy.read_text()
    entries = json.loads(kept)
    del entries["vae"], entries["tokenizer"]
    copy.write_text(json.dumps(entries))
    with pytest.raises(CorruptCheckpoint, match="names no tokenizer and no vae"):
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


def test_answers_of_every_kind_become_one(folders: Folders) -> None:
    from PIL import Image

    red = torch.zeros(1, 3, 2, 4)
    red[:, 0] = 1
    array = red.permute(0, 2, 3, 1).numpy()
    for answer in (red, array, [Image.fromarray((array[0] * 255).astype("uint8"))]):
        assert torch.equal(as_picture(answer), red[0])
