"""The section beside the seed: variations, seeds of another size, tiling."""

from __future__ import annotations

from typing import Any

import pytest

from modules.app import App
from tests.browser.conftest import OpenPage
from tests.browser.sending import send


def number(page: Any, element: str, value: str) -> None:
    page.fill(f"#{element} input[type=number]", value)
    page.keyboard.press("Tab")
    page.wait_for_timeout(150)


def test_variations_and_tiling_are_sent_and_reused(open_page: OpenPage, app: App) -> None:
    page = open_page()
    page.click("[data-section=seed]")
    page.wait_for_selector("#variation-seed", state="visible")
    page.fill("#seed textarea, #seed input", "5")
    page.fill("#variation-seed textarea, #variation-seed input", "77")
    number(page, "variation-strength", "0.3")
    number(page, "seed-resize-width", "192")
    number(page, "seed-resize-height", "128")
    page.click("#tiling input")
    page.fill("#prompt textarea", "a red apple")
    page.wait_for_timeout(200)
    assert page.is_visible("[data-section=seed] .dot")
    sent = send(page, lambda: page.click("#generate"))
    sent.wait_until_done()
    job = app.jobs.get(sent.id)
    assert job is not None
    plan = job.plan
    assert (plan.seeds, plan.variation_seeds, plan.variation_strength) == ((5,), (77,), 0.3)
    assert (plan.seed_resize, plan.tiling) == ((192, 128), True)
    number(page, "variation-strength", "0")
    page.click("#tiling input")
    page.wait_for_timeout(200)
    page.click("#action-reuse")
    page.wait_for_function("document.querySelector('#variation-strength input[type=number]').value === '0.3'")
    assert page.is_checked("#tiling input")


def test_a_variation_seed_is_drawn_or_taken_from_the_picture(open_page: OpenPage, app: App) -> None:
    page = open_page()
    page.click("[data-section=seed]")
    page.wait_for_selector("#variation-seed", state="visible")
    for strength, taken in (("0.3", "77"), ("0", "5")):  # without a variation the picture's own seed is taken
        page.fill("#seed textarea, #seed input", "5")
        page.fill("#variation-seed textarea, #variation-seed input", "77")
        number(page, "variation-strength", strength)
        page.fill("#prompt textarea", f"a red apple varied by {strength}")
        page.wait_for_timeout(200)
        send(page, lambda: page.click("#generate")).wait_until_done()
        page.click("#variation-seed-dice")
        value = "document.querySelector('#variation-seed :is(textarea, input)').value"
        page.wait_for_function(f"{value} === '-1'")
        page.click("#variation-seed-reuse")
        page.wait_for_function(f"{value} === '{taken}'")
        assert page.input_value("#seed :is(textarea, input)") == "5"


@pytest.mark.parametrize("element", ["seed", "variation-seed"])
def test_a_seed_that_is_none_is_told_at_once_where_it_can_be_read(open_page: OpenPage, element: str) -> None:
    page = open_page()
    page.click("[data-section=seed]")
    page.wait_for_selector("#variation-seed", state="visible")
    page.fill(f"#{element} :is(textarea, input)", "banana")
    page.wait_for_selector(f"#{element} .inf-note:not(:empty)")
    seen = """(note) => { note.scrollIntoView({ block: "center" }); const box = note.getBoundingClientRect();
      return document.elementFromPoint(box.x + 5, box.y + box.height / 2) === note; }"""
    assert page.locator(f"#{element} .inf-note").evaluate(seen)
    box, chip = (page.locator(selector).bounding_box() for selector in (f"#{element} input", f"#{element}-dice"))
    assert abs(box["y"] + box["height"] - chip["y"] - chip["height"]) < 2  # the buttons stay level with the field
