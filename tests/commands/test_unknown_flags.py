"""Flags that nobody takes: AUTOMATIC1111's, and misspelt ones."""

from __future__ import annotations

import pytest

from modules.commands.console import BAD_INPUT
from tests.commands.desk import Desk


def test_flags_that_automatic1111_has_and_nobody_needs_here_are_left_out_with_a_word(desk: Desk) -> None:
    # --listen without a login ends the server before it starts
    assert desk.main("--xformers", "--listen", "--disable-nan-check") == BAD_INPUT
    told = desk.err.getvalue()
    assert "Left out, as there is no need of it here: --xformers --disable-nan-check" in told
    assert "Error: --listen" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--medvrm"], "Error: --medvrm: there is no such flag. Accepted: --medvram, perhaps."),
        (["--zzz=3"], "Error: --zzz: there is no such flag. Accepted: what --help lists."),
        (["--port", "7999", "models"], "Error: models: is a command and stands first."),
        (["generate", "a red", "apple"], "Error: apple: is not expected here."),
        (["generate", "a fox", "--xformers"], "Error: --xformers: there is no such flag."),
    ],
)
def test_what_no_flag_takes_is_a_sentence_and_no_wall(arguments: list[str], told: str, desk: Desk) -> None:
    assert desk.main(*arguments) == BAD_INPUT
    assert desk.err.getvalue().startswith(told)
    assert "usage:" not in desk.err.getvalue()
