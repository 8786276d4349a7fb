"""PNG Info, the arrow at the prompt and replays, done by a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modules.app import App
from modules.imaging.formats import SaveFormat, finished
from modules.imaging.pictures import picture_facts
from modules.imaging.png import png_with_text
from tests.browser.conftest import OpenPage
from tests.browser.sending import send
from tests.metadata.graphs import basic
from tests.services.samples import make_png

CLASSIC = (
    "a purple cat, (soft:1.2)\nsecond line\nNegative prompt: bad\nSteps: 33, Sampler: DPM++ 2M Karras, CFG scale: 4.5, "
    "Seed: 4711, Size: 192x256, Model: inferenz-starter, Hires upscale: 2, Version: v1.6.0"
)


def number(page: Any, field: str) -> str:
    return str(page.input_value(f"#{field} input[type=number]"))


def filled(page: Any) -> None:
    page.wait_for_function("document.querySelector('#steps input[type=number]').value === '33'")
    assert page.input_value("#prompt textarea") == "a purple cat, (soft:1.2)\nsecond line"
    assert page.input_value("#negative-prompt textarea") == "bad"
    assert [number(page, field) for field in ("width", "height", "cfg-scale")] == ["192", "256", "4.5"]
    assert page.input_value("#seed :is(input, textarea)") == "4711"
    assert page.input_value("#sampler input") == "DPM++ 2M"
    assert page.input_value("#schedule input") == "Karras"


@pytest.mark.parametrize("kind", ["png", "avif"])
def test_a_picture_is_looked_at_and_sent_to_the_form(open_page: OpenPage, tmp_path: Path, kind: Any) -> None:
    path = tmp_path / f"other.{kind}"
    path.write_bytes(finished(make_png(), {"parameters": CLASSIC}, SaveFormat(kind=kind))[0])
    page = open_page()
    page.click("#tab-pnginfo-button")
    page.set_input_files("#inf-pnginfo input[type=file]", path)
    page.wait_for_selector("text=AUTOMATIC1111 v1.6.0")
    assert page.inner_text(".pnginfo-side .light-negative p") == "bad"
    assert "4711" in page.inner_text(".pnginfo-side .light-facts")
    page.wait_for_function("document.querySelector('.pnginfo-stage img').naturalWidth === 64")
    page.click("#pnginfo-send")
    filled(page)
    assert "Hires upscale: 2" in page.inner_text(".toast")


def test_what_is_no_picture_is_a_sentence(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.click("#tab-pnginfo-button")
    (tmp_path / "a.png").write_bytes(b"hello")
    page.set_input_files("#inf-pnginfo input[type=file]", tmp_path / "a.png")
    page.wait_for_selector(".pnginfo-side .message.danger")
    assert "not a picture" in page.inner_text(".pnginfo-side")
    (tmp_path / "b.png").write_bytes(png_with_text(make_png(), {"prompt": json.dumps(basic()), "Title": "x"}))
    page.set_input_files("#inf-pnginfo input[type=file]", tmp_path / "b.png")
    page.wait_for_selector("text=ComfyUI")
    (tmp_path / "c.png").write_bytes(make_png())
    page.set_input_files("#inf-pnginfo input[type=file]", tmp_path / "c.png")
    page.wait_for_selector("text=This picture does not say how it was made.")


DROP = """([target, bytes]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
  const place = document.querySelector(target);
  return ["dragover", "drop"].map((name) =>
    place.dispatchEvent(new DragEvent(name, { bubbles: true, cancelable: true, dataTransfer: carried })));
}"""


def test_a_picture_dropped_on_the_prompt_fills_the_form_and_elsewhere_it_is_looked_at(open_page: OpenPage) -> None:
    page = open_page()
    data = list(png_with_text(make_png(), {"parameters": CLASSIC}))
    left_to_the_browser = page.evaluate(DROP, ["#prompt textarea", data])
    assert left_to_the_browser == [False, False]
    filled(page)
    page.evaluate(DROP, ["#prompt textarea", list(make_png())])
    page.wait_for_selector(".toast >> text=This picture does not say how it was made.")
    page.evaluate(DROP, ["#prompt textarea", [1, 2, 3]])
    page.wait_for_selector(".toast.danger >> text=The file is not a picture that can be read.")
    page.evaluate(DROP, [".stage", data])
    page.wait_for_selector(".pnginfo-side >> text=AUTOMATIC1111 v1.6.0")


def test_the_arrow_takes_a_pasted_text(open_page: OpenPage) -> None:
    page = open_page()
    page.fill("#prompt textarea", CLASSIC)
    page.click("#paste")
    filled(page)
    assert page.input_value("#clip-skip input") == "1"
    assert "Not taken: Hires upscale: 2" in page.inner_text(".toast")
    page.click("#paste")
    page.wait_for_selector("text=There are no parameters in the prompt.")
    assert number(page, "steps") == "33"


def test_the_arrow_without_a_text_takes_the_last_picture(open_page: OpenPage) -> None:
    page = open_page()
    page.fill("#prompt textarea", "a pink thing")
    page.fill("#seed :is(input, textarea)", "97")
    page.wait_for_timeout(150)
    send(page, lambda: page.click("#generate")).wait_until_done()
    page.fill("#prompt textarea", "")
    page.fill("#seed :is(input, textarea)", "1")
    page.wait_for_timeout(150)
    page.click("#paste")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a pink thing'")
    page.wait_for_function("document.querySelector('#seed :is(input, textarea)').value === '97'")


def test_a_replay_and_a_copy_from_the_gallery(open_page: OpenPage, app: App, tmp_path: Path) -> None:
    page = open_page()
    page.fill("#prompt textarea", "a brown thing that is replayed")
    page.wait_for_timeout(150)
    send(page, lambda: page.click("#generate")).wait_until_done()
    newest = app.history.page(limit=1)[0]
    page.click("#tab-gallery-button")
    page.click(f'.shot[data-id="{newest.id}"] .open')
    page.click(".light-extras >> text=Replay")
    page.wait_for_selector(".replay-verdict.identical")
    with page.expect_download() as download:
        page.click(".light-extras a")
    copy = tmp_path / "copy.png"
    download.value.save_as(copy)
    assert picture_facts(copy).texts == {}
    assert str(newest.seed) not in download.value.suggested_filename
    page.click(".light-extras >> text=PNG Info")
    page.wait_for_selector(".pnginfo-program >> text=Inferenz")
    page.click("#pnginfo-replay")
    page.wait_for_selector(".pnginfo-side .replay-verdict.identical")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
