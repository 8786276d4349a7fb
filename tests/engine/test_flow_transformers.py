"""SD3, Flux and Chroma from files through the engine: the latents of diffusers' own pipelines, from the same noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import ChromaPipeline, FluxPipeline, StableDiffusion3Pipeline
from torch import Tensor

from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import Completed, EngineOptions, Event, Failed, ImageReady, Interrupted, Step
from modules.core.sampling import Schedule
from modules.diffusion.noise import NoiseChoice, PictureNoise
from modules.engine.engine import Engine
from modules.engine.manager import ModelManager
from modules.prompting.clip import ClipTokenizer
from modules.prompting.t5 import T5Tokenizer
from tests import tiny_dits as tiny
from tests.engine.small import Bench, plan
from tests.engine.watching import latents_of

SIGMAS = (1.0, 0.9, 0.72, 0.45, 0.2, 0.0)
GIVEN = Schedule(name="given", label="Given", run=lambda steps, levels: SIGMAS[-steps - 1 :])
WIDTH, HEIGHT = 80, 64
PROMPT, NEGATIVE = "a red apple on a table", "blue"
MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "flux dev": ("flux", {}),
    "flux schnell": ("flux", {"dev": False}),
    "chroma": ("chroma", {}),
    "sd3": ("sd3", {"version": "3"}),
    "sd3.5": ("sd3", {"version": "3.5"}),
}

pytestmark = pytest.mark.usefixtures("no_network")


@dataclass
class Tokenizer:
    """What diffusers' pipelines need of a tokenizer, by the bundled ones."""

    kind: str
    model_max_length: int = 77

    def tokenize(self, text: str) -> list[str]:
        """Asked for the names of embeddings in a prompt, of which there are none."""
        return []

    def __call__(self, prompt: list[str], *, padding: str, max_length: int = 77, **_: object) -> SimpleNamespace:
        rows, masks = [], []
        for text in prompt:
            if self.kind == "t5":
                reading = T5Tokenizer.load().read(text, max_length)
                rows.append(reading.ids)
                masks.append([n < reading.real for n in range(max_length)])
            else:
                filler = 0 if self.kind == "clip_g" else None
                rows.append(ClipTokenizer.load(padding=filler).chunks(text)[0].ids)
        mask = torch.tensor(masks, dtype=torch.int64)
        return SimpleNamespace(input_ids=torch.tensor(rows), attention_mask=mask)


def pipeline_of(model: tiny.TinyModel) -> Any:
    """diffusers' own, of the very networks that the file was written from."""
    euler = tiny.flow_euler()
    clip_l, clip_g, t5 = Tokenizer("clip_l"), Tokenizer("clip_g"), Tokenizer("t5")
    parts: dict[str, Any] = {**model.parts, "scheduler": euler}
    if model.family == "flux":
        made: Any = FluxPipeline(**parts, tokenizer=clip_l, tokenizer_2=t5)
    elif model.family == "chroma":
        made = ChromaPipeline(**parts, tokenizer=t5)
    else:
        made = StableDiffusion3Pipeline(**parts, tokenizer=clip_l, tokenizer_2=clip_g, tokenizer_3=t5)
    made.set_progress_bar_config(disable=True)
    return made


@torch.inference_mode()
def their_latent(model: tiny.TinyModel, order: GenerationPlan, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Tensor:
    """What diffusers makes of a plan, from the noise that the plan asks for."""
    pipeline, (width, height) = pipeline_of(model), size
    shape = (1, tiny.LATENT, height // 8, width // 8)
    source = NoiseChoice(source=order.noise_source)
    x = PictureNoise(order.seeds[0], shape, SIGMAS, torch.device("cpu"), source).initial()
    told: dict[str, Any] = {"prompt": order.prompt, "negative_prompt": order.negative_prompt}
    if model.family == "flux":
        schnell = not model.transformer.config.guidance_embeds
        told |= {"true_cfg_scale": order.cfg_scale, "max_sequence_length": 256 if schnell else 512}
        told |= {"guidance_scale": order.distilled_cfg_scale or 3.5}
    else:
        told["guidance_scale"] = order.cfg_scale
    if model.family == "chroma":  # its mask of floats is added to the attention: of bools, it masks
        told = {"guidance_scale": order.cfg_scale}
        for prefix, text in (("", order.prompt), ("negative_", order.negative_prompt)):
            embeds, mask = pipeline._get_t5_prompt_embeds([text])
            told |= {f"{prefix}prompt_embeds": embeds, f"{prefix}prompt_attention_mask": mask.bool()}
    packs = model.family != "sd3"
    if packs:
        x = pipeline._pack_latents(x, *shape)
    answer: Tensor = pipeline(
        **told, latents=x, width=width, height=height, sigmas=list(SIGMAS[:-1]), num_inference_steps=5,
        output_type="latent",
    ).images  # fmt: skip
    return pipeline._unpack_latents(answer, height, width, 8) if packs else answer


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


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    options = EngineOptions(device="cpu", preview_ms=0, trace=False)
    manager, events = ModelManager(options), list[Event]()
    engine = Engine(options, events.append, manager=manager, schedules={"given": GIVEN})
    yield Workshop(Bench(manager, engine, events), manager)  # type: ignore[arg-type]
    engine.close()


def order_of(path: Path, family: str, **values: Any) -> GenerationPlan:
    told: dict[str, Any] = {
        "checkpoint": FileRef(name=path.stem, path=str(path)), "family": family, "prompt": PROMPT,
        "negative_prompt": NEGATIVE, "schedule": "given", "sampler": "euler", "steps": 5, "width": WIDTH,
        "height": HEIGHT, "cfg_scale": 3.0,
    }  # fmt: skip
    return plan(**{**told, **values})


@pytest.mark.parametrize("name", MODELS)
def test_a_file_in_its_published_layout_gives_the_pipelines_latent(
    name: str, tmp_path: Path, workshop: Workshop
) -> None:
    family, choices = MODELS[name]
    model = tiny.tiny_model(family, **choices)
    order = order_of(model.write(tmp_path / "model.safetensors"), family)
    (ours,) = workshop.latents(order)
    if family == "sd3":  # its authors take CLIP-L's vector without the projection that files bring along
        torch.nn.init.eye_(model.text_encoder.text_projection.weight)
    torch.testing.assert_close(ours, their_latent(model, order), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_gives_the_pipelines_latent(name: str, tmp_path: Path, workshop: Workshop) -> None:
    family, choices = MODELS[name]
    model = tiny.tiny_model(family, **choices)
    order = order_of(model.write_folder(tmp_path / "model"), family)
    (ours,) = workshop.latents(order)
    torch.testing.assert_close(ours, their_latent(model, order), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_pictures_of_unequal_prompts_in_company_are_those_made_alone(
    name: str, tmp_path: Path, workshop: Workshop
) -> None:
    family, choices = MODELS[name]
    path = tiny.tiny_model(family, **choices).write(tmp_path / "model.safetensors")
    prompts = ("a cat", "a very long story of two foxes (who live:1.3) under an old bridge", "")
    orders = [order_of(path, family, prompt=prompt, seeds=(n,)) for n, prompt in enumerate(prompts)]
    together = workshop.latents(*orders)
    for order, latent in zip(orders, together, strict=True):
        (alone,) = workshop.latents(order)
        torch.testing.assert_close(latent, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["flux dev", "chroma", "sd3.5"])
def test_sides_that_patches_do_not_divide_are_drawn(name: str, tmp_path: Path, workshop: Workshop) -> None:
    family, choices = MODELS[name]
    path = tiny.tiny_model(family, **choices).write(tmp_path / "model.safetensors")
    (odd,) = workshop.latents(order_of(path, family, width=72, height=56))
    assert odd.shape == (1, tiny.LATENT, 7, 9)
    assert bool(odd.isfinite().all())


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun", "euler_a"])
def test_other_samplers_take_flow_levels(sampler: str, tmp_path: Path, workshop: Workshop) -> None:
    path = tiny.tiny_model("flux").write(tmp_path / "model.safetensors")
    (latent,) = workshop.latents(order_of(path, "flux", sampler=sampler))
    assert bool(latent.isfinite().all())


def test_the_distilled_guidance_is_the_persons(tmp_path: Path, workshop: Workshop) -> None:
    model = tiny.tiny_model("flux")
    path = model.write(tmp_path / "model.safetensors")
    orders = [order_of(path, "flux", distilled_cfg_scale=scale, cfg_scale=1.0) for scale in (None, 3.5, 2.0)]
    usual, same, other = workshop.latents(*orders)
    torch.testing.assert_close(usual, same, atol=1e-5, rtol=0)
    torch.testing.assert_close(other, their_latent(model, orders[2]), atol=1e-4, rtol=0)
    assert float((usual - other).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("values", "field"), [({"tiling": True}, "tiling"), ({"guidance": {"pag": {"scale": 2.0}}}, "guidance.pag")]
)
def test_what_transformers_cannot_do_names_the_field_and_what_can(
    values: dict[str, Any], field: str, tmp_path: Path, workshop: Workshop
) -> None:
    path = tiny.tiny_model("flux").write(tmp_path / "model.safetensors")
    workshop.bench.engine.submit("job", order_of(path, "flux", **values))
    workshop.bench.run()
    (failure,) = [event for event in workshop.bench.events if isinstance(event, Failed)]
    assert failure.message.startswith(field)
    assert "Flux.1" in failure.message
    assert "Stable Diffusion 1" in f"{failure.message} {failure.hint}"


def test_a_picture_ends_within_a_step_where_it_is_interrupted(tmp_path: Path, workshop: Workshop) -> None:
    path = tiny.tiny_model("chroma").write(tmp_path / "model.safetensors")
    engine, events = workshop.bench.engine, workshop.bench.events
    engine.submit("job", order_of(path, "chroma"))
    while not any(isinstance(event, Step) for event in events):
        engine.tick()
    engine.interrupt("job")
    workshop.bench.run()
    assert isinstance(events[-1], Interrupted)
    assert not any(isinstance(event, Completed) for event in events)


def test_a_finished_picture_is_decoded_at_its_size(tmp_path: Path, workshop: Workshop) -> None:
    path = tiny.tiny_model("sd3").write(tmp_path / "model.safetensors")
    workshop.latents(order_of(path, "sd3", width=96))
    (picture,) = [event for event in workshop.bench.events if isinstance(event, ImageReady)]
    assert (picture.width, picture.height) == (96, HEIGHT)
