"""The gallery in a browser, over the real history."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modules.app import App, AppConfig, build_app
from tests.browser.serving import served, visit
from tests.fakes.executor import ScriptedExecutor
from tests.services.samples import FACTS, make_plan, make_png

COUNT = 300  # pictures: more than two pages of the route
WORDS = ("apple", "rocket", "castle")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with build_app(AppConfig(data_dir=tmp_path), executor=ScriptedExecutor()) as built:
        yield built


@pytest.fixture
def address(app: App) -> Iterator[str]:
    with served(app) as found:
        yield found


def fill(app: App, count: int = COUNT, side: int = 16) -> list[int]:
    """Pictures 0 to count - 1, the newest last; every third has the word "castle"."""
    ids = []
    for number in range(count):
        plan = make_plan(prompt=f"a {WORDS[number % 3]} {number}", seeds=(number,))
        png = make_png(shade=number % 256, side=side)
        ids.append(app.history.save(png, plan, 0, f"job-{number}", model_hash=None, facts=FACTS).id)
    return ids


def shot(picture: int) -> str:
    return f'.shot[data-id="{picture}"]'


def test_it_scrolls_through_everything_with_few_elements(app: App, address: str, browser: Any) -> None:
    ids = fill(app)
    with visit(browser, address, "gallery") as page:
        page.wait_for_selector(shot(ids[-1]))
        assert (
            page.locator(".shot .open").first.get_attribute("aria-label") == f"a {WORDS[(COUNT - 1) % 3]} {COUNT - 1}"
        )
        assert page.inner_text("#inf-gallery .count") == f"{COUNT} pictures"
        for _ in range(600):  # more than is needed: further pages come when they come
            page.mouse.wheel(0, 2000)
            page.wait_for_timeout(50)
            assert page.locator(".shot").count() < 160
            if page.locator(shot(ids[0])).count():
                break
        page.wait_for_selector(shot(ids[0]))
        assert page.locator(shot(ids[-1])).count() == 0


def test_search_favourites_trash_and_undo(app: App, address: str, browser: Any) -> None:
    ids = fill(app, 12)
    with visit(browser, address, "gallery") as page:
        page.wait_for_selector(shot(ids[0]))
        page.fill("#inf-gallery input[type=search]", "castle")
        page.wait_for_function("document.querySelectorAll('.shot').length === 4")
        page.fill("#inf-gallery input[type=search]", "nothing like it")
        page.click("text=Clear the search")
        page.wait_for_selector(shot(ids[-1]))

        page.hover(shot(ids[5]))
        page.click(f"{shot(ids[5])} .heart")
        page.click("[data-kind=favourites]")
        page.wait_for_function("document.querySelectorAll('.shot').length === 1")
        assert app.history.get(ids[5]).favourite
        page.click("[data-kind=all]")

        page.click(f"{shot(ids[11])} .open", modifiers=["Control"])
        page.click(f"{shot(ids[8])} .open", modifiers=["Shift"])
        assert page.inner_text(".gallery-bar.chosen strong") == "4 selected"
        page.keyboard.press("Delete")
        page.wait_for_function("document.querySelectorAll('.shot').length === 8")
        page.wait_for_selector("text=Undo")  # the pictures go before the server has answered
        assert app.history.count(trash=True) == 4
        page.click("text=Undo")
        page.wait_for_selector(shot(ids[11]))
        assert app.history.count(trash=True) == 0

        page.click(f"{shot(ids[0])} .open", modifiers=["Control"])
        page.keyboard.press("Delete")
        page.wait_for_selector(shot(ids[0]), state="detached")
        page.click("[data-kind=trash]")
        page.wait_for_selector(shot(ids[0]))
        page.click("#empty-trash")
        page.click("dialog.ask .final")
        page.wait_for_selector("text=The trash is empty")
        assert app.history.count() == 11
        assert app.history.count(trash=True) == 0


def test_the_viewer_steps_marks_deletes_and_sends(app: App, address: str, browser: Any) -> None:
    ids = fill(app, 6)
    with visit(browser, address, "gallery") as page:
        page.click(f"{shot(ids[5])} .open")
        page.wait_for_selector("dialog.lightbox[open]")
        assert page.inner_text(".lightbox .counter") == "1 / 6"
        assert page.inner_text(".light-prompt") == "a castle 5"
        page.keyboard.press("ArrowRight")
        assert page.inner_text(".light-prompt") == "a rocket 4"
        page.keyboard.press("f")
        page.wait_for_selector('.light-tools .heart[aria-pressed="true"]')
        page.keyboard.press("Delete")
        page.wait_for_function("document.querySelector('.light-prompt').textContent === 'a apple 3'")
        page.click(".lightbox .toast >> text=Undo")
        page.wait_for_function("document.querySelector('.lightbox .counter').textContent === '3 / 6'")
        assert app.history.get(ids[4]).favourite
        page.click("#send-txt2img")
        page.wait_for_function("document.querySelector('#prompt textarea').value === 'a apple 3'")
        page.wait_for_function("document.querySelector('#seed :is(input, textarea)').value === '3'")
        assert page.get_attribute("#tab-txt2img-button", "aria-selected") == "true"


def test_keyboard_alone(app: App, address: str, browser: Any) -> None:
    ids = fill(app, 30)
    with visit(browser, address, "gallery") as page:
        page.wait_for_selector(shot(ids[-1]))
        for key in ("ArrowDown", "ArrowRight", "f"):
            page.keyboard.press(key)
        page.wait_for_selector(f'{shot(ids[-2])} .heart[aria-pressed="true"]')
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog.lightbox[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog.lightbox", state="detached")
        focused = page.evaluate("Number(document.activeElement.closest('.shot').dataset.id)")
        assert focused < ids[-2]
        page.keyboard.press("Space")
        page.keyboard.press("Shift+ArrowRight")
        assert page.inner_text(".gallery-bar.chosen strong") == "2 selected"
        page.keyboard.press("Escape")
        page.wait_for_selector(".gallery-bar.chosen", state="hidden")


def test_several_pictures_come_as_one_archive(app: App, address: str, browser: Any, tmp_path: Path) -> None:
    ids = fill(app, 3)
    with visit(browser, address, "gallery") as page:
        page.wait_for_selector(shot(ids[0]))
        page.keyboard.press("Control+a")
        with page.expect_download() as download:
            page.click(".chosen [aria-label=Download]")
        target = tmp_path / "pictures.zip"
        download.value.save_as(target)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(app.history.file(each).name for each in ids)


def test_a_new_picture_comes_without_a_jump(app: App, address: str, browser: Any) -> None:
    executor = app.executor
    assert isinstance(executor, ScriptedExecutor)
    fill(app, 90)
    with visit(browser, address, "gallery") as page:
        page.wait_for_selector(".shot")
        page.evaluate("scrollTo(0, 700)")
        page.wait_for_timeout(300)
        looked_at = page.evaluate(
            "[...document.querySelectorAll('.shot')].map(e => [e.dataset.id, e.getBoundingClientRect().top])"
            ".find(([, top]) => top > 200)"
        )
        app.history.save(make_png(side=16), make_plan(prompt="the newest"), 0, "new", model_hash=None, facts=FACTS)
        page.evaluate(
            "import('/inferenz/static/live.js').then(({ bus }) => { const images = [{ picture: null }];"
            " bus.dispatchEvent(new CustomEvent('job', { detail: { job: { id: 'x', state: 'completed', images:"
            " [{ picture: 91 }], plan: {}, created: 0 }, old: { images } } })); })"
        )
        page.wait_for_function("document.querySelector('#inf-gallery .count').textContent === '91 pictures'")
        page.wait_for_timeout(200)
        top = page.evaluate(f"document.querySelector('.shot[data-id=\"{looked_at[0]}\"]').getBoundingClientRect().top")
        # One picture more may move it to another place of its row, or a row further; never out of sight
        assert abs(top - looked_at[1]) < 230


def test_empty_in_german_on_a_phone(app: App, address: str, browser: Any) -> None:
    cookie = {"name": "inferenz_language", "value": "de", "url": address}
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with visit(browser, address, "gallery", storage_state={"cookies": []}, **phone) as page:
        page.context.add_cookies([cookie])
        page.reload()
        page.wait_for_selector("#generate")
        page.click("#tab-gallery-button")
        page.wait_for_selector("text=Deine Galerie ist noch leer")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("text=Das erste machen")
        assert page.get_attribute("#tab-txt2img-button", "aria-selected") == "true"
