"""The section of sampler options: closed at first, its fields follow the sampler, what is typed reaches the plan."""

from __future__ import annotations

from typing import Any

from modules.app import App
from tests.browser.conftest import OpenPage
from tests.browser.sending import send


def choose(page: Any, element: str, label: str) -> None:
    page.click(f"#{element} input")
    page.fill(f"#{element} input", label)
    page.keyboard.press("Enter")
    page.wait_for_timeout(250)


def names(page: Any) -> list[str]:
    found: list[str] = page.eval_on_selector_all(
        "#options-fields [data-option]", "all => all.map(e => e.dataset.option)"
    )
    return found


def test_options_are_typed_sent_and_reused(open_page: OpenPage, app: App) -> None:
    page = open_page()
    assert not page.is_visible("#options-fields")
    page.click("[data-section=options]")
    page.wait_for_selector("#options-fields", state="visible")
    choose(page, "sampler", "Euler a")
    choose(page, "schedule", "Karras")
    assert "fresh noise" in page.get_attribute(".option:has([data-option=eta])", "title")
    hint = ".option:has([data-option=eta]) .hint"
    assert not page.is_visible(hint)
    page.focus("[data-option=eta]")
    assert page.is_visible(hint)
    page.focus("[data-option=rho]")
    assert not page.is_visible(hint)
    assert names(page) == ["eta", "s_noise", "sigma_min", "sigma_max", "rho", "ensd"]
    page.fill("[data-option=eta]", "0.5")
    page.fill("[data-option=rho]", "5")
    page.fill("[data-option=s_noise]", "99")
    assert page.inner_text(".option:has([data-option=s_noise]) .inf-note") == "From 0 to 2."
    page.fill("[data-option=s_noise]", "")
    page.select_option("[data-choice=discard_penultimate]", "Yes")
    page.select_option("[data-choice=emphasis]", "No norm")
    page.wait_for_timeout(300)
    assert page.is_visible("[data-section=options] .dot")
    page.fill("#prompt textarea", "a red apple")
    page.wait_for_timeout(200)
    sent = send(page, lambda: page.click("#generate"))
    sent.wait_until_done()
    job = app.jobs.get(sent.id)
    assert job is not None
    assert job.plan.options == {"eta": 0.5, "s_noise": 1.0}
    assert (job.plan.schedule_options["rho"], job.plan.discard_penultimate) == (5.0, True)
    assert job.plan.emphasis == "No norm"
    choose(page, "sampler", "DPM++ 2M")  # which has none of its own: what was typed for the other is not sent
    assert names(page) == ["sigma_min", "sigma_max", "rho", "ensd"]
    page.fill("[data-option=rho]", "")
    page.wait_for_timeout(200)
    page.click("#action-reuse")
    page.wait_for_function("document.querySelector('[data-option=rho]')?.value === '5'")
    page.wait_for_function("document.querySelector('[data-option=eta]')?.value === '0.5'")
    assert page.input_value("[data-choice=emphasis]") == "No norm"
    page.reload()  # the section stays open, the values are part of the form
    page.wait_for_selector("#options-fields", state="visible")
    page.wait_for_function("document.querySelector('[data-option=eta]')?.value === '0.5'")
