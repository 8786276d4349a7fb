"""Tables of figures whose rows do not all say the same."""

from __future__ import annotations

from tests.benchmarks.tables import markdown


def test_what_a_row_says_nothing_of_stays_empty() -> None:
    table = markdown("Modes", [{"GB": 8, "s": 0.12345}, {"GB": 4, "result": "out of memory"}], {"device": "none"})
    assert table.splitlines()[2:] == [
        "| GB | s | result |", "|---|---|---|", "| 8 | 0.123 |  |", "| 4 |  | out of memory |", "", "device: none",
    ]  # fmt: skip
