"""Tags of networks, and comments."""

from __future__ import annotations

import pytest

from modules.prompting.comments import without_comments
from modules.prompting.networks import NetworkTag, tags, without_tags


def test_tags_are_read_and_taken_out() -> None:
    text = "a <lora:film grain:0.8> cat <hypernet:x:1><lora:y:te=0.5:unet=1> <b> 1 < 2"
    assert tags(text) == (
        NetworkTag("lora", ("film grain", "0.8")),
        NetworkTag("hypernet", ("x", "1")),
        NetworkTag("lora", ("y",), {"te": "0.5", "unet": "1"}),
    )
    assert without_tags(text) == "a  cat  <b> 1 < 2"
    assert tags("<lora:>") == ()
    assert NetworkTag("lora", ()).name == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a cat", "a cat"),
        ("a cat # and a dog", "a cat"),
        ("# all of it", ""),
        ("a cat,\n# no dog\n  # nor this\na hat # red\nthe end", "a cat,\na hat\nthe end"),
        ("#\n#\n", ""),
    ],
)
def test_comments_are_left_out(text: str, wanted: str) -> None:
    assert without_comments(text) == wanted
