"""Start values stand in a script element and come out of it as they went in, whatever a model is called."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from modules.ui.boot import script_json


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", ["<!--<script>", "</script><img src=x>", "a < b", "\u2028 & \"quoted\" 'ü'"])
def test_no_name_breaks_out_of_the_script(name: str) -> None:
    text = script_json({"checkpoints": [name]})
    assert "<" not in text
    parser = _Scripts()
    parser.feed(f'<script type="application/json">{text}</script>')
    assert parser.tags == ["script"]
    assert json.loads(parser.text) == {"checkpoints": [name]}
