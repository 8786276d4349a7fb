"""Z-Image and Qwen-Image from files through the engine: the latents of diffusers' own pipelines, from one noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import QwenImagePipeline, ZImagePipeline
from torch import Tensor

from modules.core.checkpoint import Separate
from modules.core.errors import RequestError, UnsupportedCheckpoint
from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import EngineOptions, Event, Failed, ImageReady, Interrupted, Notice
from modules.core.sampling import Schedule
from modules.diffusion.backbone import Backbone, Batch
from modules.diffusion.noise import PictureNoise
from modules.engine.engine import Engine
from modules.engine.manager import ModelManager
from modules.prompting.qwen import SPECIAL, SPECIAL_QWEN3, QwenTokenizer
from tests import tiny_qwens as tiny
from tests.engine.small import Bench, plan
from tests.engine.watching import latents_of
from tests.passes import denoise
from tests.tiny_dits import flow_euler

SIGMAS = (1.0, 0.9, 0.72, 0.45, 0.2, 0.0)
GIVEN = Schedule(name="given", label="Given", run=lambda steps, levels: SIGMAS[-steps - 1 :])
WIDTH, HEIGHT = 80, 64
FAMILIES = ("z_image", "qwen_image")
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("no_network")


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
    scheduler = flow_euler() if model.family == "z_image" else flow_euler(shift_terminal=0.02)
    made = kind(**model.parts, scheduler=scheduler, tokenizer=Tokenizer(special))
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


def brought(workshop: Workshop, files: Files, family: str) -> Backbone:
    """The very model that a plan runs on."""
    return workshop.manager.bring(order_of(files, family).model).backbone


@pytest.mark.parametrize(("family", "scale"), [("z_image", 1.0), ("z_image", 4.0), ("qwen_image", 1.0)])
def test_published_files_give_the_pipelines_latent(
    family: str, scale: float, models: dict[str, tiny.TinyQwen], files: dict[str, Files], workshop: Workshop
) -> None:
    order = order_of(files[family], family, cfg_scale=scale)
    (ours,) = workshop.latents(order)
    torch.testing.assert_close(ours, their_latent(models[family], order), atol=1e-4, rtol=0)


def test_the_authors_guidance_is_a_form_of_rescaling(
    models: dict[str, tiny.TinyQwen], files: dict[str, Files], workshop: Workshop
) -> None:
    guidance = {"rescale": {"phi": 1.0, "form": 3.0}}
    order = order_of(files["qwen_image"], "qwen_image", cfg_scale=3.0, guidance=guidance)
    (ours,) = workshop.latents(order)
    torch.testing.assert_close(ours, their_latent(models["qwen_image"], order), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_the_pipelines_latent(
    family: str, models: dict[str, tiny.TinyQwen], tmp_path: Path, workshop: Workshop
) -> None:
    index = models[family].write_folder(tmp_path / "model")
    whole = Files(FileRef(name="model", path=str(index)), Separate())
    order = order_of(whole, family)
    (ours,) = workshop.latents(order)
    torch.testing.assert_close(ours, their_latent(models[family], order), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_unequal_prompts_side_by_side_come_out_as_alone(
    family: str, files: dict[str, Files], workshop: Workshop
) -> None:
    prompts = ("a red apple", "a", "a longer text about a table, " * 2)
    orders = [order_of(files[family], family, prompt=text, cfg_scale=3.0, seeds=(n,)) for n, text in enumerate(prompts)]
    backbone = brought(workshop, files[family], family)
    rows: list[int] = []
    denoise = backbone.denoise
    backbone.denoise = lambda batch: (rows.append(len(batch.x)), denoise(batch))[1]  # type: ignore[method-assign,func-returns-value]
    together = workshop.latents(*orders)
    assert rows == [6] * 5
    for order, found in zip(orders, together, strict=True):
        alone = workshop_of()
        (wanted,) = alone.latents(order)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
        alone.bench.engine.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_sides_that_patches_do_not_divide(family: str, files: dict[str, Files], workshop: Workshop) -> None:
    (latent,) = workshop.latents(order_of(files[family], family, width=72, height=104))
    assert latent.shape == (1, tiny.LATENT, 13, 9)
    assert latent.isfinite().all()
    picture = brought(workshop, files[family], family).decode(latent)
    assert picture.shape == (1, 3, 104, 72)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_go_in_and_out_as_with_diffusers(
    family: str, models: dict[str, tiny.TinyQwen], files: dict[str, Files], workshop: Workshop
) -> None:
    backbone, vae = brought(workshop, files[family], family), models[family].parts["vae"]
    picture = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    latent = backbone.encode_picture(picture)
    assert latent.shape == (2, tiny.LATENT, 8, 10)
    with torch.inference_mode():
        if family == "z_image":
            wanted = (vae.encode(picture * 2 - 1).latent_dist.mode() - 0.1159) * 0.3611
            back = vae.decode(latent / 0.3611 + 0.1159).sample
        else:
            mean, std = (
                torch.tensor(values).reshape(1, -1, 1, 1, 1)
                for values in (vae.config.latents_mean, vae.config.latents_std)
            )
            wanted = ((vae.encode((picture * 2 - 1).unsqueeze(2)).latent_dist.mode() - mean) / std).squeeze(2)
            back = vae.decode(latent.unsqueeze(2) * std + mean).sample.squeeze(2)
    torch.testing.assert_close(latent, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.decode(latent), (back / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiled_decode_is_near_to_a_whole_one(family: str, files: dict[str, Files], workshop: Workshop) -> None:
    backbone = brought(workshop, files[family], family)
    smooth = torch.nn.functional.interpolate(
        torch.randn(1, tiny.LATENT, 3, 4, generator=torch.Generator().manual_seed(1)), size=(33, 48), mode="bilinear"
    )
    whole, tiled = backbone.decode(smooth), backbone.decode(smooth, tiled=True)
    assert whole.shape == tiled.shape == (1, 3, 264, 384)
    assert not torch.equal(whole, tiled)
    # Z-Image's normalises each tile by itself, and of random weights that is seen
    assert (whole - tiled).abs().mean() < {"z_image": 0.1, "qwen_image": 0.02}[family]
    assert torch.equal(backbone.decode(smooth), whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_interrupt_keeps_what_there_is(family: str, files: dict[str, Files]) -> None:
    workshop = workshop_of(keep_partial=True)
    engine, backbone = workshop.bench.engine, brought(workshop, files[family], family)
    denoise, passes = backbone.denoise, []

    def third(batch: Batch) -> Tensor:
        passes.append(len(batch.x))
        if len(passes) == 3:
            engine.interrupt("a")
        return denoise(batch)

    backbone.denoise = third  # type: ignore[method-assign]
    engine.submit("a", order_of(files[family], family))
    workshop.bench.run()
    assert len(passes) == 3
    assert isinstance(workshop.bench.of("a")[-1], Interrupted)
    (ready,) = workshop.bench.of("a", ImageReady)
    assert isinstance(ready, ImageReady)
    assert ready.partial
    engine.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_it_is_near_and_upcast_is_exact(family: str, files: dict[str, Files], workshop: Workshop) -> None:
    exact = brought(workshop, files[family], family)
    rough = workshop_of(dtype="bfloat16")
    coarse = brought(rough, files[family], family)
    x = torch.randn(1, tiny.LATENT, 8, 10, generator=torch.Generator().manual_seed(2))
    texts = [exact.encode(["a red apple"], 1)[0], coarse.encode(["a red apple"], 1)[0]]
    levels = torch.tensor([0.7])
    wanted = denoise(exact, x, levels, texts[0])
    near = denoise(coarse, x, levels, texts[1])
    assert texts[1].tokens.dtype == torch.bfloat16
    assert 0 < (near - wanted).abs().mean() < 0.05
    twin = coarse.upcast()
    torch.testing.assert_close(denoise(twin, x, levels, twin.encode(["a red apple"], 1)[0]), wanted, atol=1e-5, rtol=0)
    twin.close()
    rough.bench.engine.close()


def test_levels_lean_as_the_authors_have_it(files: dict[str, Files], workshop: Workshop) -> None:
    backbone = brought(workshop, files["z_image"], "z_image")
    assert backbone.noise_levels(1024, 1024).sigma(499) == pytest.approx(0.75, abs=1e-3)  # 3 * 0.5 / (1 + 2 * 0.5)
    backbone = brought(workshop, files["qwen_image"], "qwen_image")
    scheduler = flow_euler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256, max_image_seq_len=8192
    )
    patches = (1328 // 16) ** 2
    mu = 0.5 + (0.9 - 0.5) * (patches - 256) / (8192 - 256)
    scheduler.set_timesteps(sigmas=[0.5], mu=mu)
    ours = backbone.noise_levels(1328, 1328)
    assert ours.sigma(499) == pytest.approx(float(scheduler.sigmas[0]), abs=1e-3)
    assert ours.terminal == 0.02
    assert backbone.noise_levels(1328, 1328, shift=3.1).terminal == 0  # of one's own shift nothing more is asked


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_prompt_says_in_vain_is_told_once(family: str, files: dict[str, Files], workshop: Workshop) -> None:
    order = order_of(files[family], family, prompt="a (red:1.3) apple", steps=2, seeds=(1, 2))
    workshop.bench.engine.submit("j", order)
    workshop.bench.run()
    told = [event.text for event in workshop.bench.events if isinstance(event, Notice)]
    assert len([text for text in told if "knows no weights" in text]) == 1


def test_what_cannot_be_is_said(files: dict[str, Files], workshop: Workshop) -> None:
    for family in FAMILIES:
        backbone = brought(workshop, files[family], family)
        text = backbone.encode(["a"], 1)[0]
        with pytest.raises(RequestError, match="seamless"):
            denoise(backbone, torch.zeros(1, 16, 8, 8), torch.ones(1), text, seamless=True)
    mixed = Files(files["z_image"].checkpoint, files["qwen_image"].separate)
    with pytest.raises(UnsupportedCheckpoint, match="qwen_3_4b"):
        brought(workshop, mixed, "z_image")
    lone = Files(files["z_image"].checkpoint, Separate(text_encoder=files["z_image"].separate.text_encoder))
    with pytest.raises(UnsupportedCheckpoint, match="VAE"):
        brought(workshop, lone, "z_image")
