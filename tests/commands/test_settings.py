from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

from modules.commands.console import BAD_INPUT, FINE, STOPPED
from tests.commands.desk import Desk


def test_settings_are_shown_and_changed(desk: Desk) -> None:
    assert desk.main("settings", "preview_ms", "100") == FINE
    assert desk.main("settings", "preview_ms", "--json") == FINE
    assert desk.main("settings", "preview_ms", "--reset") == FINE
    assert desk.lines == ["preview_ms = 100", '{"preview_ms": 100}', "preview_ms = 250"]
    assert desk.main("settings") == FINE
    assert "strict = false" in desk.lines
    assert desk.main("settings", "--reset") == FINE
    assert desk.main("settings", "preview_ms", "often") == BAD_INPUT
    assert desk.main("settings", "previw_ms") == BAD_INPUT
    assert desk.main("settings", "preview_ms", "1", "--reset") == BAD_INPUT


def test_a_reader_that_leaves_is_no_error(desk: Desk) -> None:
    class Closed(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    desk.out = Closed()
    call: Callable[[], int] = partial(desk.main, "settings")
    assert call() == STOPPED
