"""The section of what is added to CFG."""

from __future__ import annotations

from typing import Any

from modules import guidance
from modules.app import App
from tests.browser.conftest import OpenPage
from tests.browser.sending import send

OPTIONS = [f"{kind.name}.{name}" for kind in guidance.registry().values() for name in kind.options]


def opened(open_page: OpenPage) -> Any:
    page = open_page()
    page.click("[data-section=guidance]")
    page.wait_for_selector("#guidance-fields fieldset", state="visible")
    return page


def at(option: str) -> str:
    return f"[data-option='{option}']"


def test_guidance_is_typed_sent_and_reused(open_page: OpenPage, app: App) -> None:
    page = opened(open_page)
    found = page.eval_on_selector_all("#guidance-fields [data-option]", "all => all.map(each => each.dataset.option)")
    assert found == OPTIONS
    assert not page.is_visible("[data-section=guidance] .dot")
    assert page.eval_on_selector("#guidance", "box => getComputedStyle(box).opacity") == "0"
    page.fill(at("rescale.phi"), "0.7")
    page.select_option(at("rescale.form"), index=1)
    page.fill(at("pag.scale"), "99")
    assert page.inner_text(f".option:has({at('pag.scale')}) .inf-note") == "From 0 to 20."
    page.fill(at("pag.scale"), "2.5")
    page.click(at("skip.all"))
    page.fill("#prompt textarea", "a red apple")
    page.wait_for_timeout(300)
    assert page.is_visible("[data-section=guidance] .dot")
    sent = send(page, lambda: page.click("#generate"))
    sent.wait_until_done()
    job = app.jobs.get(sent.id)
    assert job is not None
    wanted = {"pag": {"scale": 2.5}, "rescale": {"phi": 0.7, "form": 1.0}, "skip": {"all": 1.0}}
    assert job.plan.guidance == wanted
    page.fill(at("pag.scale"), "")
    page.fill(at("rescale.phi"), "")
    page.select_option(at("rescale.form"), index=0)
    page.click(at("skip.all"))
    page.wait_for_timeout(300)
    assert not page.is_visible("[data-section=guidance] .dot")
    page.click("#action-reuse")
    page.wait_for_function(f"document.querySelector(\"{at('pag.scale')}\")?.value === '2.5'")
    assert page.input_value(at("rescale.phi")) == "0.7"
    assert page.eval_on_selector(at("rescale.form"), "select => select.selectedIndex") == 1
    assert page.is_checked(at("skip.all"))
    page.reload()  # the section stays open, the values are part of the form
    page.wait_for_function(f"document.querySelector(\"{at('pag.scale')}\")?.value === '2.5'")


def test_a_pasted_text_sets_guidance_and_one_without_it_none(open_page: OpenPage) -> None:
    page = opened(open_page)
    line = "a red apple\nSteps: 9, Sampler: Euler a, Seed: 5, CFG scale: 7"
    for text, scale, form in ((f"{line}, PAG Active: True, PAG Scale: 3, CFG Rescale φ: 0.4", "3", 1), (line, "", 0)):
        page.fill("#prompt textarea", text)
        page.wait_for_timeout(300)
        page.click("#paste")
        page.wait_for_function(f"document.querySelector(\"{at('pag.scale')}\")?.value === '{scale}'")
        assert page.eval_on_selector(at("rescale.form"), "select => select.selectedIndex") == form


def test_a_number_that_cannot_be_is_not_passed_over(open_page: OpenPage) -> None:
    page = opened(open_page)
    page.fill(at("pag.scale"), "99")
    page.fill("#prompt textarea", "a red apple")
    page.click("[data-section=guidance]")
    page.wait_for_selector(at("pag.scale"), state="hidden")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/jobs") else None)
    page.click("#generate")
    page.wait_for_selector(at("pag.scale"), state="visible")
    assert page.evaluate("document.activeElement.dataset.option") == "pag.scale"
    page.wait_for_timeout(300)
    assert sent == []
