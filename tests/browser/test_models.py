"""The model folders in a browser, over the real catalog."""

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


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for suffix in (".safetensors", ".md"):
        shutil.copy(STARTER.with_suffix(suffix), folder)
    (folder / "page.safetensors").write_bytes(b"<!doctype html><html><body>rate limited</body></html>")
    (folder / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    executor = DrawingExecutor(step_seconds=0.01, load_seconds=0.01)
    with build_app(AppConfig(data_dir=tmp_path), executor=executor) as built:
        yield built


@pytest.fixture
def address(app: App) -> Iterator[str]:
    with served(app) as found:
        yield found


def test_what_each_file_is_and_what_can_be_done(app: App, address: str, browser: Any) -> None:
    folder = app.config.models[0] / "Stable-diffusion"
    with visit(browser, address, "models") as page:
        starter = page.locator("[data-name=inferenz-starter]")
        starter.wait_for()
        assert "Stable Diffusion 1" in starter.inner_text()
        assert "128 × 128" in starter.inner_text()
        assert "not a safetensors file" in page.inner_text("[data-name=page] .model-problem")
        assert page.locator("[data-name=page] button").count() == 0
        assert str(folder) in page.inner_text(".model-where")

        page.click("[data-act='about inferenz-starter']")
        page.wait_for_selector(".model-card >> text=What it can draw")

        shutil.copy(STARTER, folder / "newcomer.safetensors")
        page.click("[data-act='use newcomer']", timeout=60_000)
        page.wait_for_function("document.querySelector('#checkpoint input').value.startsWith('newcomer')")
        page.wait_for_selector("[data-name=newcomer].selected")
        assert app.settings.get("checkpoint") == "newcomer"

        page.fill("#inf-models input[type=search]", "new")
        assert page.locator(".model").count() == 1
        page.click("[data-kind=vaes]")
        page.wait_for_selector("text=No model matches")
        page.fill("#inf-models input[type=search]", "")
        page.wait_for_selector("text=No VAE of its own")


def test_a_pickle_is_offered_conversion_and_failure_is_told(address: str, browser: Any) -> None:
    with visit(browser, address, "models") as page:
        page.click("[data-act='convert old']")
        page.wait_for_selector("[data-name=old] .converting")
        page.wait_for_selector("[data-name=old] .model-problem.danger", timeout=120_000)
        assert "Not converted: old.ckpt" in page.inner_text("[data-name=old] .model-problem.danger")


def test_what_is_in_memory_and_taking_it_out(app: App, address: str, browser: Any) -> None:
    with visit(browser, address, "models") as page:
        page.wait_for_selector("#unload", state="hidden")
        app.jobs.submit({"prompt": "a red apple", "steps": 2})
        page.wait_for_selector("[data-name=inferenz-starter] .loaded")
        page.click("#unload")
        page.wait_for_selector("[data-name=inferenz-starter] .loaded", state="detached")


def test_it_fits_a_phone_in_italian(address: str, browser: Any) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "locale": "it-IT"}
    with visit(browser, address, "models", **phone) as page:
        page.wait_for_selector("text=Converti in safetensors")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        low = page.eval_on_selector_all(
            "#inf-models button", "all => Math.min(...all.filter(e => e.offsetParent).map(e => e.offsetHeight))"
        )
        assert low >= 44
