"""What the page makes of the chosen model: its files, its own inputs and size, and what is remembered for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modules.app import App, AppConfig, build_app
from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import Family, Part, Reads
from modules.services import catalog
from modules.services.readers import Readers, installed_readers
from tests.browser.conftest import OpenPage, opener
from tests.browser.serving import served
from tests.fakes.drawing import DrawingExecutor
from tests.services.model_files import write_model
from tests.tiny import write_part, write_tiny_sd1, write_without

WIDTH, HEIGHT, STEPS, CFG = (f"#{name} input[type=number]" for name in ("width", "height", "steps", "cfg-scale"))
FLUX_PARTS = (
    Part(name="text_encoder", kind="clip_l", usual="clip_l.safetensors"),
    Part(name="text_encoder_2", kind="t5", usual="t5xxl_fp16.safetensors"),
    Part(name="vae", kind="kl16", usual="ae.safetensors"),
)


def readers() -> Readers:
    """Those that are installed, and a family of files of four bytes with a tensor "flux": 1024 pixels, a flow model."""
    real = installed_readers()

    def flux(header: Header) -> ModelInfo:
        if "flux" not in header.tensors:
            raise NotAMatch("This is another model.")
        side = int(header.metadata.get("side", 1024))
        return ModelInfo(
            name="", path=str(header.path), family="flux", label="Flux.1", supported=True, prediction="flow",
            variant="dev", components=("transformer",), size=header.size, mtime_ns=header.mtime_ns,
            defaults=Defaults(width=side, height=side, steps=28, cfg_scale=1, sampler="euler", schedule="simple",
                              distilled_cfg_scale=3.5),
        )  # fmt: skip

    def checkpoint(header: Header) -> ModelInfo:
        return flux(header) if "flux" in header.tensors else real.checkpoint(header)

    def part(header: Header, kind: str, other: ModelInfo) -> ModelInfo:
        known = {"t5": "text_encoder", "clip_l": "text_encoder", "kl16": "vae"}
        config = {"text_encoder": {"hidden_size": 768}} if kind == "clip_l" else {}
        return replace(
            other,
            supported=True,
            problem="",
            family=known[kind],
            variant=kind,
            components=(known[kind],),
            config=config,
        )

    def text_encoder(header: Header) -> ModelInfo:
        kind = next((key for key in ("t5", "clip_l") if key in header.tensors), "")
        return part(header, kind, real.text_encoder(header)) if kind else real.text_encoder(header)

    def vae(header: Header) -> ModelInfo:
        return part(header, "kl16", real.vae(header)) if "kl16" in header.tensors else real.vae(header)

    families = {
        **real.families,
        "flux": Family(name="flux", label="Flux.1", detect=flux, parts=FLUX_PARTS, predictions=("flow",),
                       variants=("dev", "schnell"), reads=Reads(by="t5", length=6)),
    }  # fmt: skip
    return replace(real, checkpoint=checkpoint, text_encoder=text_encoder, vae=vae, families=families)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    whole = write_tiny_sd1(tmp_path / "whole.safetensors")
    (folder / "Stable-diffusion").mkdir(parents=True)
    write_tiny_sd1(folder / "Stable-diffusion" / "a-tiny.safetensors")
    write_without(whole, folder / "Stable-diffusion" / "bare.safetensors", "cond_stage_model.", "first_stage_model.")
    write_part(whole, folder / "VAE" / "mse.safetensors", prefix="first_stage_model.")
    write_model(folder / "Stable-diffusion" / "flux1-dev.safetensors", "flux")
    write_model(folder / "Stable-diffusion" / "flux-small.safetensors", "flux", side="512")
    write_model(folder / "VAE" / "ae.safetensors", "kl16")
    write_model(folder / "text_encoder" / "clip_l.safetensors", "clip_l")
    write_model(folder / "text_encoder" / "t5xxl_fp16.safetensors", "t5")
    write_model(folder / "text_encoder" / "t5xxl_fp8_e4m3fn.safetensors", "t5")
    return folder


@pytest.fixture
def app(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setattr(catalog, "installed_readers", readers)
    with build_app(AppConfig(data_dir=tmp_path), executor=DrawingExecutor(step_seconds=0.01)) as built:
        yield built


@pytest.fixture
def open_page(app: App, browser: Any) -> Iterator[OpenPage]:
    with served(app) as address, opener(browser, address.rstrip("/")) as opened:
        yield opened


def choose(page: Any, name: str) -> None:
    """Choose a checkpoint from the list on top."""
    page.click("#checkpoint input")
    page.locator("#checkpoint ul[role=listbox] li, ul[role=listbox] li", has_text=name).first.click()
    page.wait_for_timeout(700)


def holds(page: Any, selector: str, value: str) -> None:
    page.wait_for_function(f"document.querySelector({selector!r})?.value === {value!r}")


def sent(page: Any) -> dict[str, Any]:
    """The request that a click on Generate sends."""
    with page.expect_request(lambda request: request.url.endswith("/inferenz/jobs")) as asked:
        page.click("#generate")
    return dict(asked.value.post_data_json)


def test_the_counter_counts_as_the_model_reads(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#prompt textarea").fill("a small red apple on blue paper")
    page.wait_for_function("document.querySelector('#count-prompt').textContent === '7/75'")
    choose(page, "flux1-dev")
    page.wait_for_function("document.querySelector('#count-prompt').textContent === '7/5'")
    assert "over" in page.get_attribute("#count-prompt", "class")
    assert page.get_attribute("#count-prompt", "title") == "7 tokens: the last 2 find no room, this model reads 5"
    choose(page, "a-tiny")
    page.wait_for_function("document.querySelector('#count-prompt').textContent === '7/75'")


def test_size_steps_and_guidance_follow_the_model_unless_they_were_chosen(open_page: OpenPage) -> None:
    page = open_page()
    holds(page, WIDTH, "64")
    assert not page.is_visible("#distilled-cfg-scale")
    choose(page, "flux1-dev")
    holds(page, WIDTH, "1024")
    holds(page, STEPS, "28")
    holds(page, CFG, "1")
    assert page.is_visible("#distilled-cfg-scale")
    assert page.is_visible("#shift")
    assert page.is_visible("#unused-negative")
    request = sent(page)
    assert (request["width"], request["distilled_cfg_scale"], request["shift"]) == (1024, 3.5, None)
    page.locator(STEPS).fill("12")
    page.locator(STEPS).press("Tab")
    choose(page, "a-tiny")
    holds(page, WIDTH, "64")
    holds(page, STEPS, "12")
    assert not page.is_visible("#shift")
    request = sent(page)
    assert (request["distilled_cfg_scale"], request["shift"], request["checkpoint"]) == (None, None, "a-tiny")


def test_a_choice_of_the_models_tab_is_followed_at_once(open_page: OpenPage) -> None:
    page = open_page()
    page.click("#tab-models-button")
    page.click("[data-act='use flux1-dev']")
    page.wait_for_selector("[data-name=flux1-dev].selected")
    page.click("#tab-txt2img-button")
    holds(page, WIDTH, "1024")


def test_a_form_that_was_left_on_another_model_does_not_keep_its_size(open_page: OpenPage, app: App) -> None:
    page = open_page()
    page.locator(STEPS).fill("9")
    page.locator(STEPS).press("Tab")
    page.wait_for_timeout(300)
    app.settings.set("checkpoint", "flux1-dev")
    page.reload()
    holds(page, WIDTH, "1024")
    holds(page, HEIGHT, "1024")
    holds(page, STEPS, "9")


def test_an_aspect_ratio_is_kept_at_the_new_models_size_and_a_far_size_offers_the_models(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, "flux-small")
    holds(page, WIDTH, "512")
    page.click("[data-aspect='16:9']")
    holds(page, WIDTH, "680")
    page.wait_for_timeout(300)
    choose(page, "flux1-dev")
    page.wait_for_function(f"Number(document.querySelector({WIDTH!r}).value) > 1300")
    assert not page.is_visible("#native")
    page.locator(WIDTH).fill("512")
    page.locator(WIDTH).press("Tab")
    page.click("#native")
    holds(page, WIDTH, "1024")


def test_parts_are_found_chosen_and_sent(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, "flux1-dev")
    page.click("#parts-open")
    page.wait_for_selector("dialog .part-choice")
    labels = page.locator("dialog .part-choice h3").all_inner_texts()
    assert labels == ["CLIP-L text encoder", "T5 text encoder", "VAE"]
    assert page.locator("dialog").get_by_text("mse").count() == 0
    page.locator("dialog .style-row", has_text="t5xxl_fp8").click()
    page.wait_for_function("document.querySelector('#parts-open').textContent.includes('t5xxl_fp8')")
    page.keyboard.press("Escape")
    assert sent(page)["text_encoder"] == ["t5xxl_fp8_e4m3fn"]
    choose(page, "a-tiny")
    page.wait_for_function("document.querySelector('#parts-open').textContent.includes('Automatic')")
    assert sent(page)["text_encoder"] == "Automatic"


def test_what_is_missing_is_named_before_generate(open_page: OpenPage, models: Path) -> None:
    page = open_page()
    choose(page, "bare")
    page.wait_for_selector("#parts-note >> text=clip_l.safetensors (models/text_encoder)")
    assert "VAE" not in page.inner_text("#parts-note").split("What would fit")[0]
    choose(page, "a-tiny")
    page.wait_for_function("!document.querySelector('#parts-note').textContent")


def test_settings_are_remembered_for_a_model_and_forgotten(open_page: OpenPage, app: App) -> None:
    page = open_page()
    assert page.is_disabled("#profile-remember")
    page.locator(STEPS).fill("7")
    page.locator(STEPS).press("Tab")
    page.wait_for_timeout(300)
    page.click("#profile-remember")
    page.wait_for_selector("text=Remembered for a-tiny")
    assert app.catalog.note(app.catalog.find("a-tiny")).profile["steps"] == 7
    choose(page, "flux1-dev")
    holds(page, STEPS, "28")
    choose(page, "a-tiny")
    holds(page, STEPS, "7")
    page.click("#profile-forget")
    holds(page, STEPS, "20")
    assert not app.catalog.note(app.catalog.find("a-tiny")).profile


def test_what_does_not_go_with_a_flow_model_is_marked(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, "flux1-dev")
    page.click("#sampler input")
    page.wait_for_selector("li >> text=TCD (not for this model)")
    page.locator("ul[role=listbox] li", has_text="TCD").click()
    page.wait_for_selector("#sampler .inf-note >> text=Not made for flow models")


def test_a_model_is_taken_as_something_else_and_back(open_page: OpenPage, app: App) -> None:
    page = open_page()
    page.click("#tab-models-button")
    page.click("[data-act='take a-tiny']")
    page.locator(".take-form select").nth(1).select_option("v")
    page.click("[data-act='apply a-tiny']")
    page.wait_for_selector("[data-name=a-tiny] .model-note >> text=Taken as Stable Diffusion 1, v")
    assert app.catalog.find("a-tiny").prediction == "v"
    page.click("[data-act='take a-tiny']")
    page.click("[data-act='reset a-tiny']")
    page.wait_for_selector("[data-name=a-tiny] .model-note", state="detached")
    assert app.catalog.find("a-tiny").prediction == "epsilon"


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_choices_fit_a_phone_in_german(open_page: OpenPage, scheme: Any) -> None:
    page = open_page(390, 844, has_touch=True, is_mobile=True, locale="de-DE", color_scheme=scheme)
    choose(page, "bare")
    page.wait_for_selector("#parts-note >> text=Passen würde")
    page.click("#controls-toggle")
    page.click("#parts-open")
    page.wait_for_selector("dialog .part-choice")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
