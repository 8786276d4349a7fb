"""The kinds of guidance as the browser is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules import guidance
from modules.ui.texts import Texts


def described_guidance(texts: Texts) -> dict[str, Any]:
    """Every kind for the browser: label, help, and per option its label, bounds, and words for whole numbers if it has
    any. The texts are those under `guidance.KIND` and `guidance.KIND.OPTION`; else it is the registry's own name.
    """
    table = texts.table
    return {
        kind.name: {
            "label": table.get(f"guidance.{kind.name}", kind.label),
            "help": table.get(f"guidance.{kind.name}.help", ""),
            "options": {
                name: {
                    "label": table.get(f"guidance.{kind.name}.{name}", name),
                    "default": option.default, "low": option.low, "high": option.high, "whole": option.whole,
                    "choices": _words(table, f"guidance.{kind.name}.{name}", option.low, option.high),
                }
                for name, option in kind.options.items()
            },
        }
        for kind in guidance.registry().values()
    }  # fmt: skip


def _words(table: Mapping[str, str], key: str, low: float, high: float) -> list[str]:
    keys = [f"{key}.{value}" for value in range(int(low), int(high) + 1)]
    return [table[each] for each in keys] if all(each in table for each in keys) else []
