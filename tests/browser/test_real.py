"""The whole program in a browser: the real worker process, the starter, a second checkpoint, and what may die."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from modules.app import ROOT, App, AppConfig, build_app
from modules.core.job import EngineOptions
from modules.executors.worker import WorkerExecutor
from tests.browser.conftest import OpenPage, opener
from tests.browser.sending import Sent, send
from tests.browser.serving import PATIENCE_MS, served
from tests.tiny import write_tiny_sd1

PROMPT = "#prompt textarea"
DONE = ".stage img.final"
TOLD = "!!document.querySelector('.message.danger')"
FOCUSED = "document.activeElement.closest('.block')?.id"
# Counts the pictures that the stage has shown before the final one.
WATCH = """window.seen = new Set(); new MutationObserver(() => {
  const image = document.querySelector(".stage img.preview");
  if (image) seen.add(image.src); }).observe(document.body, { childList: true, subtree: true, attributes: true })"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("real")
    checkpoints = folder / "models" / "Stable-diffusion"
    checkpoints.mkdir(parents=True)
    shutil.copy(ROOT / "models" / "Stable-diffusion" / "inferenz-starter.safetensors", checkpoints)
    write_tiny_sd1(checkpoints / "tiny.safetensors")
    with build_app(AppConfig(data_dir=folder, engine=EngineOptions(device="cpu", threads=1))) as app:
        app.settings.set("preview_ms", 1)
        app.settings.set("checkpoint", "inferenz-starter")
        yield app


@pytest.fixture(scope="module")
def address(real: App) -> Iterator[str]:
    with served(real) as address:
        yield address


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[OpenPage]:
    with opener(browser, address) as opened:

        def patient(*size: int, **options: Any) -> Any:
            page = opened(*size, **options)
            page.set_default_timeout(PATIENCE_MS)
            return page

        yield patient


def _steps(page: Any, steps: int) -> None:
    page.locator("#steps input[type=number]").fill(str(steps))
    page.locator("#steps input[type=number]").press("Tab")


def _go(page: Any, prompt: str, steps: int = 6) -> Sent:
    _steps(page, steps)
    page.fill(PROMPT, prompt)
    page.wait_for_timeout(150)
    return send(page, lambda: page.keyboard.press("Control+Enter"))


def _settled(page: Any) -> None:
    page.wait_for_function("document.title === 'Inferenz'")


def test_noise_becomes_a_picture_with_its_parameters(open_page: OpenPage, address: str) -> None:
    page = open_page()
    page.evaluate(WATCH)
    _go(page, "a red apple on a blue background", 60).wait_until_done()
    _settled(page)
    assert page.evaluate("seen.size") >= 2
    assert page.locator(".strip-list .tile.done").count() >= 1
    png = page.request.get(page.get_attribute(DONE, "src")).body()
    image = Image.open(io.BytesIO(png))
    assert image.size == (128, 128)
    assert image.info["parameters"].startswith("a red apple on a blue background\nSteps: 60")


def test_a_reload_in_the_middle_then_skip_then_interrupt(open_page: OpenPage, real: App) -> None:
    page = open_page()
    page.locator("#batch-count input[type=number]").fill("40")  # long enough for whatever comes in the middle
    page.locator("#batch-count input[type=number]").press("Tab")
    sent = _go(page, "a fox on a green background", 150)
    sent.wait_for_preview()
    page.reload()
    sent.wait_for_preview()
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'a fox on a green background'")
    page.wait_for_function("document.querySelector('#steps input[type=number]').value === '150'")
    page.click("#skip")
    page.wait_for_selector(".thumbs .tile.skipped")
    page.keyboard.press("Escape")
    _settled(page)
    assert real.jobs.recent(1)[0].state == "interrupted"


def test_german_on_a_phone(open_page: OpenPage) -> None:
    page = open_page(390, 844, is_mobile=True, has_touch=True, locale="de-DE")
    assert page.inner_text("#generate") == "Generieren"
    page.fill(PROMPT, "a yellow rocket on a purple background")
    page.wait_for_timeout(150)
    send(page, lambda: page.tap("#generate")).wait_until_done()
    _settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_phones_sheet_remembers_and_tells_what_differs(open_page: OpenPage) -> None:
    page = open_page(390, 844, is_mobile=True, has_touch=True)
    assert page.locator("#controls-toggle .dot").is_hidden()
    page.tap("#controls-toggle")
    _steps(page, 9)
    page.wait_for_selector("#controls-toggle .dot:not([hidden])")
    assert "Steps" in page.get_attribute("#controls-toggle .dot", "title")
    page.reload()
    page.wait_for_selector("#steps", state="visible")
    page.wait_for_selector("#controls-toggle .dot:not([hidden])")
    page.locator("#steps [data-testid=block-info]").dblclick()
    page.wait_for_selector("#controls-toggle .dot[hidden]", state="attached")


@pytest.mark.parametrize(
    ("field", "typed", "note"),
    [("steps", "0", "From 1 to 150."), ("width", "100", "A multiple of 8."), ("seed", "12x", "A whole number"),
     ("cfg-scale", "99", "From 1 to 30.")],
)  # fmt: skip
def test_bad_input_is_told_at_its_field_and_nothing_is_corrected(
    open_page: OpenPage, field: str, typed: str, note: str
) -> None:
    page = open_page()
    page.locator(f"#{field} input:not([type=range])").fill(typed)
    assert page.inner_text(f"#{field} .inf-note").startswith(note)
    page.fill(PROMPT, "a cat")
    page.wait_for_timeout(150)
    page.keyboard.press("Control+Enter")
    page.wait_for_function(f"{TOLD} || {FOCUSED} === '{field}'")
    if page.evaluate(TOLD):  # by the server, with a way back to the field
        assert "Traceback" not in page.inner_text(".message.danger")
        page.click(".message.danger .tool")
    assert page.evaluate(FOCUSED) == field
    assert page.input_value(f"#{field} input:not([type=range])") == typed
    assert page.input_value(PROMPT) == "a cat"


def test_another_checkpoint_brings_its_defaults_to_untouched_fields_only(open_page: OpenPage) -> None:
    page = open_page()
    _steps(page, 7)
    page.click("#checkpoint input")
    page.click("#checkpoint [role=option]:has-text('tiny')")
    page.wait_for_function("document.querySelector('#width input[type=number]').value === '64'")
    assert page.input_value("#height input[type=number]") == "64"
    assert page.input_value("#steps input[type=number]") == "7"
    page.click("#checkpoint input")
    page.click("#checkpoint [role=option]:has-text('starter')")
    page.wait_for_function("document.querySelector('#width input[type=number]').value === '128'")


def test_a_killed_worker_is_told_and_the_next_picture_is_made(open_page: OpenPage, real: App) -> None:
    page = open_page()
    _go(page, "a blue castle on a pink background", 150).wait_for_preview()
    assert isinstance(real.executor, WorkerExecutor)
    assert real.executor.process_id is not None
    psutil.Process(real.executor.process_id).kill()
    page.wait_for_selector(".message.danger")
    page.wait_for_selector("#inf-bar:not([hidden])")
    page.click(".message.danger .tool:nth-of-type(2)")
    page.wait_for_selector("dialog[open] pre")
    page.keyboard.press("Escape")
    assert page.input_value(PROMPT) == "a blue castle on a pink background"
    _go(page, "a blue castle on a pink background", 4).wait_until_done()
    page.wait_for_selector("#inf-bar", state="hidden")


def test_a_picture_that_could_not_be_written_is_saved_again(browser: Any, tmp_path: Path) -> None:
    config = AppConfig(data_dir=tmp_path, models_dirs=(ROOT / "models",), in_process=True)
    folder = tmp_path / "outputs" / "txt2img-images"
    with build_app(config) as app, served(app) as address, opener(browser, address) as opened:
        folder.write_text("a file where the folder should be")
        page = opened()
        page.set_default_timeout(PATIENCE_MS)
        sent = _go(page, "a green frog on a white background", 4)
        page.wait_for_selector(".message.danger")
        assert "not saved" in page.inner_text(".state")
        folder.unlink()
        page.click(".message.danger .tool")
        sent.wait_until_done()


def test_a_server_that_went_away_and_came_back_finds_the_text_still_there(
    browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = AppConfig(data_dir=tmp_path_factory.mktemp("gone"), models_dirs=(ROOT / "models",), in_process=True)
    with build_app(config) as app:
        with served(app) as address:
            port = int(address.rstrip("/").rpartition(":")[2])
            context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(address)
            page.wait_for_function("document.querySelector('[data-aspect][aria-pressed=true]')")
            page.fill(PROMPT, "a text that must not be lost")
        page.wait_for_selector("#inf-bar:not([hidden])")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".message.danger")
        assert page.input_value(PROMPT) == "a text that must not be lost"
        with served(app, port):
            page.wait_for_selector("#inf-bar", state="hidden")
            assert page.input_value(PROMPT) == "a text that must not be lost"
            app.jobs.interrupt_all()
            _steps(page, 2)
            page.focus(PROMPT)
            send(page, lambda: page.keyboard.press("Control+Enter")).wait_until_done()
            context.close()


def test_a_hidden_tab_with_nothing_to_wait_for_lets_go_of_its_stream(open_page: OpenPage) -> None:
    page = open_page()
    _settled(page)
    hide = (
        "Object.defineProperty(document, 'visibilityState', {{ value: '{0}', configurable: true }});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    listening = "import('./inferenz/static/live.js').then((live) => live.listening())"
    assert page.evaluate(listening)
    page.evaluate(hide.format("hidden"))
    assert not page.evaluate(listening)
    page.evaluate(hide.format("visible"))
    time.sleep(0.1)
    assert page.evaluate(listening)
