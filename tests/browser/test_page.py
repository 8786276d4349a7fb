"""What people do on the page, done by a browser."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.sending import Sent, send
from tests.fakes.drawing import DrawingExecutor

PROMPT = "#prompt textarea"
DONE = ".stage img.final"


def _generate(page: Any, prompt: str = "a red apple on a blue background") -> Sent:
    page.fill(PROMPT, prompt)
    page.wait_for_timeout(150)
    return send(page, lambda: page.click("#generate"))


def _settled(page: Any) -> None:
    page.wait_for_function("document.title === 'Inferenz'")


def test_noise_becomes_a_picture(open_page: OpenPage) -> None:
    page = open_page()
    sent = _generate(page)
    sent.wait_for_preview()
    sent.wait_until_done()
    page.wait_for_selector(".details .facts")
    _settled(page)
    assert page.locator(".strip-list .tile.done").count() >= 1
    assert page.evaluate(f"document.querySelector('{DONE}').naturalWidth") == 128
    page.click(".parameters summary")
    assert "Steps: 20" in page.inner_text(".infotext")


def test_interrupt_ends_the_job(open_page: OpenPage, executor: DrawingExecutor) -> None:
    page = open_page()
    executor.hold_after = 2
    try:
        _generate(page, "a green thing that takes long").wait_for_preview()
        page.keyboard.press("Escape")
        page.wait_for_function("document.querySelector('.state').textContent === 'Interrupted'")
    finally:
        executor.release()
    _settled(page)


def test_what_waits_is_listed_and_taken_out(open_page: OpenPage, executor: DrawingExecutor) -> None:
    page = open_page()
    executor.hold_after = 2
    try:
        first = _generate(page, "a green thing that takes long")
        first.wait_for_preview()
        others = [_generate(page, f"waiting {name}") for name in ("one", "two", "three")]
        page.wait_for_selector("#queue-chip >> text=4 in the queue")
        page.click("#queue-chip")
        page.wait_for_selector(".queue-row:nth-child(4)")
        assert page.inner_text(f"[data-job='{others[1].id}'] .queue-prompt") == "waiting two"
        with page.expect_response(lambda each: each.url.endswith(f"/jobs/{others[1].id}/interrupt")):
            page.click(f"[data-job='{others[1].id}'] .tool")
        with page.expect_response(lambda each: each.url.endswith(f"/jobs/{first.id}/interrupt")):  # the last to go
            page.click("#interrupt-all")
    finally:
        executor.release()
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_selector("#queue-chip", state="hidden")
    _settled(page)
    states = """async () => {
      const { jobs } = await import("./inferenz/static/live.js");
      return [...jobs.values()].map(({ id, state }) => [id, state]);
    }"""
    ended = dict(page.evaluate(states))
    assert {ended[job.id] for job in (first, *others)} == {"interrupted"}


def test_a_job_that_ends_without_a_picture_after_a_reload_is_interrupted(
    open_page: OpenPage, executor: DrawingExecutor
) -> None:
    page = open_page()
    _generate(page, "a blue thing that is finished").wait_until_done()
    executor.hold_after = 2
    try:
        sent = _generate(page, "a green thing that takes long")
        sent.wait_for_preview()
        page.reload()
        sent.wait_for_preview()
        page.keyboard.press("Escape")
        page.wait_for_function("document.querySelector('.state').textContent === 'Interrupted'")
        assert page.locator(DONE).count() == 0
    finally:
        executor.release()


def test_form_and_running_job_come_back_after_a_reload(open_page: OpenPage, executor: DrawingExecutor) -> None:
    page = open_page()
    executor.hold_after = 2
    try:
        page.locator("#steps input[type=number]").fill("30")
        page.locator("#steps input[type=number]").press("Tab")
        sent = _generate(page, "a purple thing before the reload")
        sent.wait_for_preview()
        page.reload()
        sent.wait_for_preview()
    finally:
        executor.release()
    sent.wait_until_done()
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'a purple thing before the reload'")
    page.wait_for_function("document.querySelector('#steps input[type=number]').value === '30'")


def test_an_error_is_a_sentence_with_a_way_out(open_page: OpenPage) -> None:
    page = open_page()
    _generate(page, "too much memory")
    page.wait_for_selector(".message.danger")
    text = page.inner_text(".message.danger")
    assert "does not fit into the memory" in text
    assert "Traceback" not in text
    assert page.locator(".message.danger .tool").count() == 2


def test_a_bad_value_is_told_at_its_field_and_by_the_server(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#steps input[type=number]").fill("999")
    assert page.inner_text("#steps .inf-note") == "From 1 to 150."
    page.locator("#seed input").fill("not a number")
    assert page.inner_text("#seed .inf-note")
    page.fill(PROMPT, "a fox")
    page.wait_for_timeout(150)
    page.click("#generate")
    assert page.evaluate("document.activeElement.closest('.block').id") == "steps"
    assert page.input_value("#steps input[type=number]") == "999"


def test_an_unanswered_request_is_no_news_once_the_server_is_back(open_page: OpenPage) -> None:
    page = open_page()
    _generate(page, "a blue thing before the server went").wait_until_done()
    page.route("**/inferenz/jobs", lambda route: route.abort())
    page.click("#generate")
    page.wait_for_selector(".message.danger >> text=The server does not answer.")
    told = """async (state) => {
      const { bus } = await import("./inferenz/static/live.js");
      bus.dispatchEvent(new CustomEvent("connection", { detail: { state } }));
    }"""
    page.evaluate(told, "lost")
    assert page.locator(".message.danger").count() == 1
    page.evaluate(told, "open")
    page.wait_for_selector(DONE)
    assert page.locator(".message.danger").count() == 0


def test_what_is_typed_before_the_form_is_filled_stays(open_page: OpenPage) -> None:
    """As on a slow machine: the form's first values come after the first keys."""
    page = open_page()
    page.add_init_script("""
      const click = HTMLElement.prototype.click;
      HTMLElement.prototype.click = function () { // the bridge by which the form is filled
        if (this.id !== "form-bridge" || window.unlocked) return click.call(this);
      };
    """)
    page.reload()
    page.wait_for_selector("#steps input[type=number]")
    page.fill(PROMPT, "typed early")
    page.fill("#steps input[type=number]", "7")
    page.keyboard.press("Tab")
    page.evaluate("window.unlocked = true")
    page.wait_for_timeout(1500)
    assert (page.input_value(PROMPT), page.input_value("#steps input[type=number]")) == ("typed early", "7")


@pytest.mark.parametrize("typed", ["0", "-5", "", "2.5"])
def test_a_bad_number_stays_as_typed_and_nothing_is_drawn(typed: str, open_page: OpenPage) -> None:
    page = open_page()
    sent: list[str] = []
    page.on("request", lambda each: sent.append(each.url) if each.method == "POST" else None)
    steps = page.locator("#steps input[type=number]")
    steps.fill(typed)
    page.fill(PROMPT, "a fox")
    page.wait_for_timeout(300)
    page.click("#generate")
    page.wait_for_timeout(300)
    assert steps.input_value() == typed
    assert page.inner_text("#steps .inf-note")
    assert not [url for url in sent if url.endswith("/jobs")]
    steps.fill("2")
    _generate(page, "a fox").wait_until_done()
    assert [url for url in sent if url.endswith("/jobs")]
    assert page.inner_text("#steps .inf-note") == ""


def test_german(open_page: OpenPage) -> None:
    page = open_page(locale="de-DE")
    assert page.inner_text("#generate") == "Generieren"
    assert page.evaluate("document.documentElement.lang") == "de"


def test_the_language_changes_without_a_restart(open_page: OpenPage) -> None:
    page = open_page()
    page.fill(PROMPT, "una volpe")
    page.wait_for_timeout(300)
    page.select_option("#language", "it")
    page.wait_for_function("document.querySelector('#generate')?.innerText === 'Genera'")
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'una volpe'")


def test_labels_are_whole_in_every_language(open_page: OpenPage) -> None:
    clipped = """[...document.querySelectorAll(':is(#t2i, #inf-top) [data-testid=block-info], #t2i button')]
      .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"""
    for locale in ("en-US", "de-DE", "it-IT"):
        assert open_page(locale=locale).evaluate(clipped) == []


def test_the_top_of_a_tablet_covers_nothing(open_page: OpenPage) -> None:
    page = open_page(820, 1180, locale="de-DE")
    clip_skip, theme = (page.locator(name).bounding_box() for name in ("#clip-skip", "#theme-toggle"))
    assert clip_skip["x"] + clip_skip["width"] <= theme["x"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 820


def test_the_footer_names_the_device_from_the_start(open_page: OpenPage) -> None:
    page = open_page()
    page.wait_for_function("document.getElementById('inf-status').textContent !== ''")
    page.reload()
    page.wait_for_function("document.getElementById('inf-status')?.textContent")


def test_a_phone_scrolls_down_only(open_page: OpenPage) -> None:
    page = open_page(390, 844, is_mobile=True, has_touch=True, locale="de-DE")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("#generate").bounding_box()
    assert box["y"] + box["height"] <= 844
    assert box["height"] >= 44
    assert page.locator(".stage").bounding_box()["y"] < page.locator(PROMPT).bounding_box()["y"]
    assert not page.locator("#steps").is_visible()
    page.click("#controls-toggle")
    assert page.locator("#steps").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    over = "document.elementFromPoint(40, innerHeight - 6).closest('#t2i-actions') !== null"
    for top in range(0, 1200, 20):  # whatever is scrolled to there, nothing shows through the bar
        page.evaluate(f"scrollTo({{top: {top}, behavior: 'instant'}})")
        assert page.evaluate(over)


def test_what_can_be_done_with_a_picture_is_one_line_on_a_phone(open_page: OpenPage) -> None:
    page = open_page(390, 844, is_mobile=True, has_touch=True, locale="de-DE")
    _generate(page).wait_until_done()
    page.wait_for_function("""() => {
      const shown = document.querySelector(".stage img.final").src.split("/").at(-1);
      return document.querySelector(".details .heart")?.dataset.picture === shown;
    }""")
    edges = """[...document.querySelectorAll(".details .actions .tool")].map((each) => {
      const { top, right } = each.getBoundingClientRect();
      return [top, right];
    })"""
    tops, rights = zip(*page.evaluate(edges), strict=True)
    assert len(set(tops)) == 1
    assert max(rights) <= 390
    assert page.get_by_role("button", name="Parameter kopieren").count() == 1  # an icon that is still named


def test_the_keyboard_does_it_all(open_page: OpenPage) -> None:
    page = open_page()
    page.keyboard.press("/")
    page.keyboard.type("a red apple")
    page.keyboard.press("Control+ArrowUp")
    assert page.input_value(PROMPT) == "a red (apple:1.1)"
    page.keyboard.press("Control+ArrowDown")
    assert page.input_value(PROMPT) == "a red apple"
    sent = send(page, lambda: page.keyboard.press("Control+Enter"))
    sent.wait_for_preview()
    sent.wait_until_done()
    page.evaluate("document.activeElement.blur()")
    page.wait_for_selector(".details .heart[aria-pressed=false]")
    page.keyboard.press("f")
    page.wait_for_selector(".details .heart[aria-pressed=true]")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open] kbd")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


def test_the_viewer_steps_through_a_batch(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#batch-count input[type=number]").fill("2")
    page.locator("#batch-count input[type=number]").press("Tab")
    _generate(page).wait_until_done()
    page.wait_for_function("document.querySelectorAll('.thumbs .tile.done').length === 2")
    page.click(DONE)
    page.wait_for_function("document.querySelector('.caption').textContent.startsWith('1/2')")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.caption').textContent.startsWith('2/2')")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


def test_light_and_dark_follow_the_system_until_chosen(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    dark = "document.body.classList.contains('dark')"
    page.wait_for_function(dark)
    page.click("#theme-toggle")
    assert not page.evaluate(dark)
    page.reload()
    page.wait_for_selector("#inf-canvas .stage")
    page.wait_for_timeout(300)
    assert not page.evaluate(dark)
    assert not open_page(color_scheme="light").evaluate(dark)


def test_reuse_fills_the_form(open_page: OpenPage) -> None:
    page = open_page()
    _generate(page, "a yellow rocket").wait_until_done()
    page.wait_for_selector(".details .facts")
    page.fill(PROMPT, "something else")
    page.click("#action-reuse")
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'a yellow rocket'")
    page.wait_for_function("document.querySelector('#seed input').value !== '-1'")


def test_how_it_works_shows_four_parts(open_page: OpenPage) -> None:
    page = open_page()
    _generate(page).wait_until_done()
    page.click("#tab-how-button")
    page.wait_for_selector(".part:nth-child(4) img")
    assert page.locator(".film li").count() == 20
    assert page.locator(".tokens li").count() >= 5


def test_tokens_are_counted_while_typing(open_page: OpenPage) -> None:
    page = open_page()
    page.fill(PROMPT, "a red apple")
    page.wait_for_function("document.querySelector('#count-prompt').textContent === '3/75'")


def test_swap_and_aspect_set_the_size(open_page: OpenPage) -> None:
    page = open_page()
    page.click("[data-aspect='16:9']")
    page.wait_for_function("document.querySelector('#width input[type=number]').value === '168'")
    page.click("#swap")
    page.wait_for_function("document.querySelector('#height input[type=number]').value === '168'")
