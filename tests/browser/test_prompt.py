"""The prompt on the page: tokens as they are typed, what the linter says, what each step sees, and styles."""

from __future__ import annotations

import random
from typing import Any

from modules.app import App
from modules.prompting.clip import ClipTokenizer
from modules.prompting.comments import without_comments
from modules.prompting.grammar import Alternation, Edit, Tree, parse
from modules.prompting.networks import without_tags
from modules.prompting.stages import parts_of
from modules.prompting.styles import Style, styled
from tests.browser.conftest import OpenPage
from tests.browser.sending import send
from tests.prompting.test_clip import TEXTS
from tests.prompting.test_grammar import DOCUMENTED, EDGES, LONGEST

PROMPT = "#prompt textarea"
EVALUATIONS = 12
SHORT = 3_000  # characters of the longest texts: what is slow in either language shows at this length already


def _plain(tree: Tree) -> list[Any]:
    """A tree as the browser's side writes it."""
    found: list[Any] = []
    for node in tree:
        match node:
            case Edit(before, after, when):
                found.append({"before": _plain(before), "after": _plain(after), "when": when})
            case Alternation(options):
                found.append({"options": [_plain(option) for option in options]})
            case _:
                found.append(node.text)
    return found


def _texts() -> list[str]:
    draw = random.Random(11)
    pieces = [
        "a cat", ", ", "(", ")", "[", "]", ":", "|", ":1.2)", ":0.5]", ":3]", "BREAK", " AND ", "\\(", "\\",
        "<lora:x:1>", "Ångström", "猫", "👩‍👩‍👧", "don't", " 12 ", "\n", "#", "word " * 9, "AND", "x,y", "é", ".",
        "<|endoftext|>",
    ]  # fmt: skip
    made = ["".join(draw.choices(pieces, k=draw.randrange(1, 30))) for _ in range(600)]
    longest = [text[:SHORT] for text in LONGEST]
    return [*DOCUMENTED, *EDGES, *(text for text in TEXTS if text.isprintable()), *longest, *made]


def test_the_browser_reads_and_counts_as_the_server_does(open_page: OpenPage) -> None:
    page = open_page()
    clip = ClipTokenizer.load()
    texts = _texts()
    theirs = page.evaluate(
        """async ([texts, evaluations]) => {
          const grammar = await import("./inferenz/static/prompt-grammar.js");
          const tokenizer = await import("./inferenz/static/tokenizer.js");
          await tokenizer.load();
          return texts.map((text) => ({
            tree: grammar.parse(text), comments: grammar.withoutComments(text), tokens: tokenizer.tokens(text).length,
            seen: grammar.texts(grammar.withoutTags(text), evaluations, true).sort(),
            count: tokenizer.count(text, evaluations, true),
          }));
        }""",
        [texts, EVALUATIONS],
    )
    for text, found in zip(texts, theirs, strict=True):
        assert found["tree"] == _plain(parse(text)), text
        assert found["comments"] == without_comments(text)
        assert found["tokens"] == len(clip.ids(text)), text
        seen = {each for part in parts_of(without_tags(text), EVALUATIONS) for each in part.stages.texts}
        assert {each.strip() for each in found["seen"]} == {each.strip() for each in seen}, text
        counts = [clip.count_display(each) for each in seen]
        assert (found["count"]["count"], found["count"]["limit"]) == max(counts), text


def test_tokens_are_counted_without_asking_the_server(open_page: OpenPage) -> None:
    page = open_page()
    page.evaluate("import('./inferenz/static/tokenizer.js').then((tokenizer) => tokenizer.load())")
    page.wait_for_timeout(300)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator(PROMPT).press_sequentially("a red apple, BREAK [a|b c]", delay=10)
    page.wait_for_function("document.querySelector('#count-prompt').textContent === '77/150'")
    assert not [url for url in asked if url.endswith("/tokens")]


def test_long_texts_do_not_stop_the_page(open_page: OpenPage) -> None:
    page = open_page()
    seconds = page.evaluate(
        """async (texts) => {
          const tokenizer = await import("./inferenz/static/tokenizer.js");
          await tokenizer.load();
          return texts.map((text) => tokenizer.count(text, 20, true).count);
        }""",
        list(LONGEST),
    )
    assert all(count >= 0 for count in seconds)


def test_problems_are_told_and_found(open_page: OpenPage) -> None:
    page = open_page()
    page.fill(PROMPT, "a (cat with __nothing__ <lora:style:1>")
    page.wait_for_selector("#lint-prompt .trouble")
    assert page.locator("#lint-prompt .trouble").all_inner_texts() == [
        "( is never closed",
        "There is no wildcard nothing",
        "+1 more",
    ]
    page.click("#lint-prompt .trouble >> nth=1")
    selected = page.evaluate("(([a]) => a.value.slice(a.selectionStart, a.selectionEnd))([document.activeElement])")
    assert selected == "__nothing__"
    page.fill(PROMPT, "a cat")
    page.wait_for_function("!document.querySelector('#lint-prompt').childElementCount")


def test_problems_beyond_the_second_are_told_when_asked_for(open_page: OpenPage) -> None:
    page = open_page()
    page.fill(PROMPT, "a (cat with __nothing__ <lora:style:1>")
    page.click("text=+1 more")
    told = page.locator("#lint-prompt .trouble").all_inner_texts()
    assert len(told) == 3
    assert "style" in told[2]
    assert page.evaluate("document.activeElement.textContent") == told[2]


def test_what_each_step_sees(open_page: OpenPage) -> None:
    page = open_page()
    page.fill(PROMPT, "a [cat:dog:0.5] AND fog :0.4")
    page.click("#lint-prompt .see")
    page.wait_for_selector("dialog .stages")
    assert page.locator("dialog h3").all_inner_texts() == ["Joined by AND, weight 1", "Joined by AND, weight 0.4"]
    cells = page.locator("dialog .stages td").all_inner_texts()
    assert cells == ["a cat", "a dog", "fog"]
    assert page.locator("dialog .stages th").first.inner_text() == "Step 1–11"  # of 20, the first stage and one more
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


def test_styles_are_saved_chosen_sent_and_inserted(open_page: OpenPage, app: App) -> None:
    page = open_page()
    page.fill(PROMPT, "oil painting, {prompt}")
    page.wait_for_timeout(150)
    page.click("#styles-open")
    page.click("dialog >> text=New style from the prompt")
    assert "{prompt} stands for what you typed" in page.inner_text(".style-form")
    right = "(each) => each.getBoundingClientRect().right"
    assert page.eval_on_selector(".style-form textarea", right) <= page.eval_on_selector(".style-form", right)
    page.fill("dialog input[name=name]", "Oil")
    page.fill("dialog textarea[name=negative_prompt]", "photo")
    page.click("dialog button[type=submit]")
    page.wait_for_selector(".style-row")
    assert app.words.styles.all() == (Style(name="Oil", prompt="oil painting, {prompt}", negative_prompt="photo"),)
    page.click(".style-row label")
    page.click("dialog button[aria-label=Close]")
    page.wait_for_selector("#styles-chosen .chip.style")
    page.fill(PROMPT, "a red apple")
    page.wait_for_timeout(150)
    sent = send(page, lambda: page.click("#generate"))
    sent.wait_until_done()
    job = app.jobs.get(sent.id)
    assert job is not None
    assert (job.plan.prompt, job.plan.negative_prompt) == ("oil painting, a red apple", "photo")
    page.reload()  # the choice is part of the form
    page.wait_for_selector("#styles-chosen .chip.style")
    page.click("#styles-open")
    page.click("#styles-insert")
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'oil painting, a red apple'")
    page.wait_for_selector("#styles-chosen .chip.style", state="detached")
    app.words.styles.delete("Oil")


WEIGHED = [  # | is the caret, two of them are the selection
    ("a red f|ox", "Up", "a red (fox:1.1)"),
    ("a |red fox|, dog", "Up", "a (red fox:1.1), dog"),
    ("a |red fox |, dog", "Up", "a (red fox:1.1) , dog"),
    ("a (red f|ox:1.3), dog", "Up", "a (red fox:1.4), dog"),
    ("a (red f|ox:1.1), dog", "Down", "a red fox, dog"),
    ("a (red fox:1.|3), dog", "Down", "a (red fox:1.2), dog"),
    ("a ((f|ox)) dog", "Up", "a (fox:1.3) dog"),
    ("a [f|ox] dog", "Down", "a (fox:0.8) dog"),
    ("a [cat:d|og:0.5]", "Up", "a [cat:(dog:1.1):0.5]"),
    ("a [c|at¦dog]", "Up", "a [(cat:1.1)¦dog]"),
    ("(cat:1.2) f|ox (dog:1.1)", "Up", "(cat:1.2) (fox:1.1) (dog:1.1)"),
    ("\\(dr|awing\\)", "Up", "\\((drawing:1.1)\\)"),
    ("a <lora:f|oo:0.8> dog", "Up", "a <lora:foo:0.85> dog"),
    ("a <lora:f|oo> dog", "Down", "a <lora:foo:0.95> dog"),
    ("a <lora:foo:0.8:0.|5>", "Up", "a <lora:foo:0.85:0.5>"),
    ("a (fox:0.1|) dog", "Down", "a (fox:0) dog"),
    ("a , | , dog", "Up", "a ,  , dog"),
]
WEIGH = """async ([typed, by]) => {
  const { weigh } = await import("./inferenz/static/weights.js");
  const [before, ...rest] = typed.split("|");
  const area = document.querySelector("#prompt textarea");
  area.value = (before + rest.join("")).replaceAll("¦", "|");
  area.focus();
  area.setSelectionRange(before.length, before.length + (rest.length > 1 ? rest[0].length : 0));
  weigh(area, by);
  return area.value.replaceAll("|", "¦");
}"""


def test_the_weight_of_what_the_caret_is_in(open_page: OpenPage) -> None:
    page = open_page()
    found = [(text, key, page.evaluate(WEIGH, [text, 1 if key == "Up" else -1])) for text, key, _ in WEIGHED]
    assert found == WEIGHED


def test_a_weight_is_undone_as_typing_is(open_page: OpenPage) -> None:
    page = open_page()
    page.click(PROMPT)
    page.keyboard.type("a red fox")
    page.keyboard.press("Control+ArrowUp")
    assert page.input_value(PROMPT) == "a red (fox:1.1)"
    page.keyboard.press("Control+z")
    assert page.input_value(PROMPT) == "a red fox"


def test_styled_is_the_same_in_the_browser(open_page: OpenPage) -> None:
    cases = [("a cat", ["x {prompt} {prompt}", "y"]), ("", ["y", ""]), (" a $& ", ["{prompt}", "z"]), ("b", [])]
    page = open_page()
    found = page.evaluate(
        """async (cases) => {
          const { styled } = await import("./inferenz/static/prompt-grammar.js");
          return cases.map(([text, additions]) => styled(text, additions));
        }""",
        cases,
    )
    assert found == [styled(text, additions) for text, additions in cases]


def test_wildcards_make_each_picture_its_own_prompt(open_page: OpenPage, app: App) -> None:
    folder = app.words.wildcards.folders[-1]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fruit.txt").write_text("apple\npear\nplum\nfig\n", encoding="utf-8")
    page = open_page()
    page.fill(PROMPT, "a __fruit__")
    page.fill("#batch-count input[type=number]", "6")
    page.keyboard.press("Tab")
    page.wait_for_timeout(200)
    sent = send(page, lambda: page.click("#generate"))
    sent.wait_until_done()
    job = app.jobs.get(sent.id)
    assert job is not None
    assert job.plan.template == "a __fruit__"
    records = app.history.of_job(sent.id)
    assert [record.prompt for record in records] == list(job.plan.prompts)
    assert len({record.prompt for record in records}) > 1
