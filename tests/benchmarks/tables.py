"""Tables of figures. No torch, so that who only puts tables together starts at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def markdown(title: str, rows: Sequence[Mapping[str, object]], facts: Mapping[str, object]) -> str:
    """A heading, a table with one line per row, and the machine below it. What a row says nothing of stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"### {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(_cell(row.get(column, '')) for column in columns)} |" for row in rows]
    return "\n".join([*lines, "", "; ".join(f"{name}: {value}" for name, value in facts.items())])


def against(what: str, figure: float, *, unit: str = "", at_most: float | None = None) -> dict[str, object]:
    """A row that says whether a figure keeps its limit; without a limit it only reports."""
    shown = f"{figure:.3g} {unit}".strip()
    if at_most is None:
        return {"": what, "figure": shown, "limit": "", "kept": ""}
    limit = f"at most {at_most:.3g} {unit}".strip()
    return {"": what, "figure": shown, "limit": limit, "kept": "yes" if figure <= at_most else "**no**"}


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
