from __future__ import annotations

import pytest

from modules.commands.guidance_flag import guidance_values
from modules.core.errors import RequestError


def test_options_are_gathered_by_kind() -> None:
    assert guidance_values(["pag.scale=3", "apg.eta=0, apg.momentum=-0.75", "pag.scale=3.0"]) == {
        "pag": {"scale": 3.0}, "apg": {"eta": 0.0, "momentum": -0.75}
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "pag", "pag=3", "pag.scale", "pag.scale=", "pag.scale=big", ".x=1", "pag.=1", "a.b=1,"]
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"--guidance: .*KIND\.OPTION=X"):
        guidance_values([text])


def test_two_values_are_refused() -> None:
    with pytest.raises(RequestError, match=r"pag\.scale has two values"):
        guidance_values(["pag.scale=3", "pag.scale=4"])
