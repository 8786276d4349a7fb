"""The settings in a browser, over the real ones and one more that the page has never heard of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modules.app import App, AppConfig, build_app
from modules.services.setting_specs import SPECS, SettingSpec
from modules.services.settings import Settings
from modules.services.state import StateDatabase
from tests.browser.serving import served, visit
from tests.fakes.executor import ScriptedExecutor

NEW = SettingSpec(
    name="halo", section="system", kind="float", default=0.5, low=0, high=1, label="Halo", help="How much of it.",
    needs_restart=True,
)  # fmt: skip


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with build_app(AppConfig(data_dir=tmp_path), executor=ScriptedExecutor()) as built:
        state = StateDatabase(tmp_path / "more.sqlite3")
        yield replace(built, settings=Settings(state, (*SPECS, NEW)))
        state.close()


@pytest.fixture
def address(app: App) -> Iterator[str]:
    with served(app) as found:
        yield found


def test_change_refuse_reset_and_search(app: App, address: str, browser: Any) -> None:
    with visit(browser, address, "settings") as page:
        page.wait_for_selector("[data-name=halo] .restart")
        assert page.inner_text("[data-name=halo] label") == "Halo"
        assert page.locator(".setting").count() == sum(not spec.hidden for spec in (*SPECS, NEW))

        assert page.locator("[data-name=vram] .flag").all_inner_texts() == ["--medvram", "--lowvram"]

        page.fill("#setting-halo", "0.25")
        page.wait_for_selector("[data-name=halo].pending")
        assert app.settings.get("halo") == 0.25
        page.wait_for_selector("[data-name=halo] label .dot")
        page.click("[data-name=halo] .back")
        page.wait_for_selector("[data-name=halo] label .dot", state="hidden")
        assert app.settings.get("halo") == 0.5

        page.fill("#setting-preview_ms", "9999")
        assert page.inner_text("[data-name=preview_ms] .inf-note") == "From 0 to 5000."
        page.fill("#setting-preview_ms", "1.5")
        assert page.inner_text("[data-name=preview_ms] .inf-note") == "A whole number is needed."
        assert app.settings.get("preview_ms") == 250
        page.fill("#setting-preview_ms", "300")
        page.wait_for_selector("[data-name=preview_ms] label .dot")
        assert app.settings.get("preview_ms") == 300

        page.fill("#inf-settings input[type=search]", "thumbnail")
        names = page.eval_on_selector_all(".setting:not([hidden])", "found => found.map(e => e.dataset.name)")
        assert names == ["thumbnail_cache_mb", "gallery_thumb_size"]
        page.fill("#inf-settings input[type=search]", "zeppelin")
        page.wait_for_selector("text=No setting matches")


def test_theme_and_language_take_effect_at_once(app: App, address: str, browser: Any) -> None:
    with visit(browser, address, "settings", color_scheme="light") as page:
        page.click("#inf-settings [data-value=dark]")
        page.wait_for_function("document.body.classList.contains('dark')")
        page.click("#inf-settings [data-value=it]")
        page.wait_for_selector("#inf-settings h2:has-text('Interfaccia')")
        assert page.get_attribute("html", "lang") == "it"
        assert page.evaluate("document.body.classList.contains('dark')")
        assert app.settings.get("language") == "it"


def test_it_fits_a_phone(address: str, browser: Any) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with visit(browser, address, "settings", **phone) as page:
        page.wait_for_selector("[data-name=halo]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        low = page.eval_on_selector_all(
            ".setting input, #inf-settings .segments button", "found => Math.min(...found.map(e => e.offsetHeight))"
        )
        assert low >= 44


COVERED = """() => [...document.querySelectorAll(".setting:not([hidden])")].filter((row) => {
  const words = row.querySelector(".setting-text").getBoundingClientRect();
  const control = row.querySelector(".setting-control").getBoundingClientRect();
  const beside = control.left >= words.right || control.top >= words.bottom;
  return !beside || control.right > row.getBoundingClientRect().right
    || [...row.querySelectorAll(".segments")].some((each) => each.scrollWidth > each.clientWidth);
}).map((row) => row.dataset.name)"""


@pytest.mark.parametrize(("width", "locale"), [(1280, "de-DE"), (1280, "it-IT"), (820, "de-DE"), (390, "de-DE")])
def test_no_control_covers_its_text_or_leaves_its_card(width: int, locale: str, address: str, browser: Any) -> None:
    with visit(browser, address, "settings", locale=locale, viewport={"width": width, "height": 900}) as page:
        page.wait_for_selector("[data-name=vram] .segments")
        assert page.evaluate(COVERED) == []
