"""The lists of checkpoints, samplers and schedules in a browser, over a folder that changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modules.app import ROOT, App, AppConfig, build_app
from tests.browser.serving import served, visit
from tests.fakes.drawing import DrawingExecutor

STARTER = ROOT / "models" / "Stable-diffusion" / "inferenz-starter.safetensors"
CHECKPOINT = "#checkpoint input"
SAMPLER = "#sampler input"
OPEN_LISTS = "ul[role=listbox]:visible"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    shutil.copy(STARTER, folder)
    return folder


@pytest.fixture
def app(folder: Path, tmp_path: Path) -> Iterator[App]:
    executor = DrawingExecutor(step_seconds=0.01, load_seconds=0.01)
    with build_app(AppConfig(data_dir=tmp_path), executor=executor) as built:
        yield built


@pytest.fixture
def address(app: App) -> Iterator[str]:
    with served(app) as found:
        yield found


def _found(app: App, name: str) -> bool:
    app.catalog.refresh()
    return name in {each.name for each in app.catalog.checkpoints()}


def _shows(page: Any, text: str) -> None:
    page.wait_for_function(f"document.querySelector('{CHECKPOINT}').value === '{text}'")


def test_a_checkpoint_newer_than_the_page_is_shown_and_used(app: App, folder: Path, address: str, browser: Any) -> None:
    with visit(browser, address, "txt2img") as page:
        _shows(page, "inferenz-starter")  # the page is built
    shutil.copy(STARTER, folder / "newcomer.safetensors")
    assert _found(app, "newcomer")
    app.settings.set("checkpoint", "newcomer")
    with visit(browser, address, "txt2img") as page:
        _shows(page, "newcomer")
        page.click(SAMPLER)  # whose marks depend on the checkpoint
        page.locator("li", has_text="Heun").first.click()
        page.wait_for_function(f"document.querySelector('{SAMPLER}').value === 'DPM++ 2M SDE Heun'")
        assert page.locator("[data-testid=toast-body]").count() == 0
        page.fill("#prompt textarea", "a fox")
        page.wait_for_timeout(150)
        page.click("#generate")
        page.wait_for_selector(".details >> text=newcomer")


def test_a_checkpoint_that_is_deleted_stays_in_the_open_list_and_says_so(
    app: App, folder: Path, address: str, browser: Any
) -> None:
    shutil.copy(STARTER, folder / "visitor.safetensors")
    assert _found(app, "visitor")
    with visit(browser, address, "txt2img") as page:
        page.click(CHECKPOINT)
        page.locator("li", has_text="visitor").click()
        _shows(page, "visitor")
        page.wait_for_timeout(600)  # the choice is kept as a setting
        (folder / "visitor.safetensors").unlink()
        assert not _found(app, "visitor")
        page.click(CHECKPOINT)
        page.wait_for_selector("li >> text=visitor (no longer there)")
        page.locator("li", has_text="inferenz-starter").click()
        _shows(page, "inferenz-starter")


def test_typing_into_a_list_replaces_what_it_holds(address: str, browser: Any) -> None:
    with visit(browser, address, "txt2img") as page:
        _shows(page, "inferenz-starter")
        page.click(SAMPLER)
        page.wait_for_timeout(100)
        page.keyboard.type("euler a")
        page.keyboard.press("Enter")
        page.wait_for_function(f"document.querySelector('{SAMPLER}').value === 'Euler a'")


def test_tab_passes_through_the_lists_and_leaves_them_closed(address: str, browser: Any) -> None:
    with visit(browser, address, "txt2img") as page:
        _shows(page, "inferenz-starter")
        page.focus(SAMPLER)
        page.wait_for_selector(OPEN_LISTS)
        page.keyboard.press("Tab")
        page.wait_for_function("document.activeElement.closest('#schedule') !== null")
        page.keyboard.press("Tab")
        page.wait_for_function("document.activeElement.closest('#steps') !== null")
        page.wait_for_selector(OPEN_LISTS, state="detached")
