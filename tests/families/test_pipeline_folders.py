"""Folders of pipelines that run as they are: what the model list says of them before anything is loaded."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest

from modules.core.checkpoint import Header, ModelInfo, read_header
from modules.core.errors import CorruptCheckpoint
from modules.core.family import Family, identify
from modules.core.plugin import Registry
from modules.families.layouts.pipeline_defaults import OWN
from modules.families.layouts.pipelines import does_instead, may_be_ours
from tests.families.published import header_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Kolors' module, where sentencepiece is there
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

KL = {"vae": {"block_out_channels": [128, 256, 512, 512]}}
DC = {"vae": {"encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024]}}
# Their calls name another size than their models have: Sana's are of many sizes, and Cascade's first stage has 1024
_OTHER_SIZES = ("SanaPipeline", "SanaPAGPipeline", "SanaSprintPipeline", "StableCascadeCombinedPipeline")
_OTHER_STEPS = ("Flux2KleinModularPipeline",)  # distilled, which its class says, and its blocks do not


def folder(name: str, configs: dict[str, Any] | None = None, **index: Any) -> Header:
    return header_of({}, "some-folder", configs={"model_index": {"_class_name": name, **index}, **(configs or {})})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", OWN)
def test_defaults_are_the_pipelines_own(name: str) -> None:
    own, kind = OWN[name], getattr(diffusers, name)
    if getattr(kind, "_backends", ["torch"]) != ["torch"] and not hasattr(kind, "_optional_components"):
        pytest.skip(f"{name} needs a package that is not installed")
    if issubclass(kind, diffusers.ModularPipeline):
        blocks = getattr(diffusers, kind.default_blocks_name)()
        called = {each.name: each.default for each in blocks.inputs}
        assert "text2image" in blocks.available_workflows
    else:
        called = {key: each.default for key, each in inspect.signature(kind.__call__).parameters.items()}
    assert called["num_inference_steps"] == own.steps or name in _OTHER_STEPS
    scales = ("true_cfg_scale", "guidance_scale", "prior_guidance_scale")
    scale = next((called[key] for key in scales if key in called), None)
    assert scale in (own.cfg_scale, None)
    if called.get("width") is not None and name not in _OTHER_SIZES:
        side = own.side if isinstance(own.side, tuple) else (own.side, own.side)
        assert (called["width"], called["height"]) == side


@pytest.mark.parametrize(
    ("header", "size", "steps", "scale"),
    [
        (folder("KolorsPipeline", {"unet": {"sample_size": 128}, **KL}), (1024, 1024), 50, 5.0),
        (folder("PixArtAlphaPipeline", {"transformer": {"sample_size": 64}, **KL}), (512, 512), 20, 4.5),
        (folder("SanaPipeline", {"transformer": {"sample_size": 64}, **DC}), (2048, 2048), 20, 4.5),
        (folder("AuraFlowPipeline", {"transformer": {"sample_size": 64}, **KL}), (1024, 1024), 50, 3.5),
        (folder("IFPipeline", {"unet": {"sample_size": 64}}), (64, 64), 100, 7.0),
        (folder("PRXPipeline", default_sample_size=1024), (1024, 1024), 28, 4.0),
        (folder("Flux2KleinPipeline", is_distilled=True), (1024, 1024), 4, 1.0),
        (folder("Flux2KleinPipeline", is_distilled=False), (1024, 1024), 50, 4.0),
        (folder("Krea2Pipeline", is_distilled=True), (1024, 1024), 8, 0.0),
        (folder("QwenImage21Pipeline", sample_sigmas=[1.0, 0.8, 0.5, 0.2]), (1024, 1024), 4, 1.0),
        (folder("Cosmos2TextToImagePipeline"), (1360, 768), 35, 7.0),
        (folder("PixArtAlphaPipeline", {"transformer": {"sample_size": "many"}}), (1024, 1024), 20, 4.5),
        (folder("TomorrowsPipeline", {"transformer": {"sample_size": 64}, **KL}), (1024, 1024), 28, 4.0),
    ],
)
def test_a_folder_begins_as_its_model_was_made_for(
    header: Header, size: tuple[int, int], steps: int, scale: float, families: Registry[Family]
) -> None:
    info = identify(header, families)
    assert (info.family, info.supported, info.problem) == ("diffusers", True, "")
    found = info.defaults
    assert ((found.width, found.height), found.steps, found.cfg_scale) == (size, steps, scale)
    assert found.distilled_cfg_scale is None


def test_a_distilled_hunyuan_image_asks_for_its_scale(families: Registry[Family]) -> None:
    def defaults(**config: Any) -> ModelInfo:
        return identify(folder("HunyuanImagePipeline", {"transformer": config}), families)

    assert defaults(guidance_embeds=True).defaults.distilled_cfg_scale == 3.25
    assert defaults(guidance_embeds=False).defaults.distilled_cfg_scale is None
    assert defaults().label == "Hunyuan Image"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("WanPipeline", "makes videos"),
        ("HunyuanVideo15Pipeline", "makes videos"),
        ("Kandinsky5T2VPipeline", "makes videos"),
        ("Cosmos2VideoToWorldPipeline", "makes videos"),
        ("StableAudioPipeline", "makes sounds"),
        ("LLaDA2Pipeline", "writes text"),
        ("ShapEPipeline", "shapes"),
        ("Kandinsky5I2IPipeline", "none from text alone"),
        ("LongCatImageEditPipeline", "none from text alone"),
        ("HunyuanImageRefinerPipeline", "none from text alone"),
        ("CogView4ControlPipeline", "none from text alone"),
        ("StableCascadeDecoderPipeline", "one half of a model"),
        ("KandinskyV22PriorPipeline", "one half of a model"),
    ],
)
def test_a_folder_that_makes_something_else_says_so(name: str, what: str, families: Registry[Family]) -> None:
    info = identify(folder(name), families)
    assert not info.supported
    assert info.problem.startswith(f"this is {info.label}, which ")
    assert what in info.problem


@pytest.mark.parametrize("kind", AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values(), ids=lambda kind: str(kind.__name__))
def test_what_diffusers_takes_for_text_to_image_is_not_refused(kind: type[Any]) -> None:
    name = kind.__name__
    put_aside = "deprecated" in kind.__module__
    assert name in OWN or put_aside or may_be_ours(folder(name)) or "Control" in name or "Helios" in name
    if name in OWN:
        assert not does_instead(name)


def test_a_modular_pipeline_is_a_folder_too(tmp_path: Path, families: Registry[Family]) -> None:
    """It has an index of its own, whose entries have more to say."""
    index = tmp_path / "mine" / "modular_model_index.json"
    index.parent.mkdir()
    index.write_text(json.dumps({"_class_name": "AnimaModularPipeline"}))
    info = identify(read_header(index), families)
    assert (info.name, info.family, info.label, info.supported) == ("mine", "diffusers", "Anima", True)
    assert (info.title, info.defaults.cfg_scale) == ("mine", 4.0)
    where = {"pretrained_model_name_or_path": "someone/mine", "subfolder": "vae"}
    index.write_text(json.dumps({"_class_name": "WanModularPipeline", "vae": ["diffusers", "Autoencoder", where]}))
    with pytest.raises(CorruptCheckpoint, match=r"vae/config\.json is missing"):
        read_header(index)
    index.write_text(json.dumps({"_class_name": "WanModularPipeline"}))
    assert "makes videos" in identify(read_header(index), families).problem
