"""What the page says of the kinds of guidance."""

from __future__ import annotations

import pytest

from modules import guidance
from modules.ui.guidance_kinds import described_guidance
from modules.ui.texts import Texts, languages, texts_for


@pytest.mark.parametrize("language", languages())
def test_every_built_in_kind_and_option_has_its_text(language: str) -> None:
    table = texts_for(language).table
    described = described_guidance(texts_for(language))
    assert list(described) == list(guidance.registry())
    for name, kind in described.items():
        assert kind["label"] == table[f"guidance.{name}"]
        assert kind["help"] == table[f"guidance.{name}.help"]
        assert {option: each["label"] for option, each in kind["options"].items()} == {
            option: table[f"guidance.{name}.{option}"] for option in guidance.registry()[name].options
        }
    assert len(described["rescale"]["options"]["form"]["choices"]) == 4
    assert described["skip"]["options"]["all"]["choices"] == []


def test_a_plugged_in_kind_has_its_own_names() -> None:
    described = described_guidance(Texts("en", {}))
    assert described["pag"]["label"] == guidance.registry()["pag"].label
    assert described["pag"]["help"] == ""
    assert described["pag"]["options"]["scale"] == {
        "label": "scale", "default": 0.0, "low": 0.0, "high": 20.0, "whole": False, "choices": [],
    }  # fmt: skip
