"""What the tests of the history do with one, and find in its folder."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from modules.services.history import History, PictureRecord
from tests.services.samples import FACTS, make_plan, make_png

DAY = time.mktime((2026, 1, 31, 12, 0, 0, 0, 0, -1))


def save(history: History, index: int = 0, job: str = "job", prompt: str = "a red apple") -> PictureRecord:
    return history.save(make_png(index), make_plan(prompt=prompt), index, job, model_hash="0123456789", facts=FACTS)


def pictures(outputs: Path) -> list[str]:
    return sorted(path.relative_to(outputs).as_posix() for path in outputs.rglob("*.png"))


def leftovers(outputs: Path) -> list[Path]:
    """Temporary files that stay. A thumbnail that is being written just now is given the time to be finished."""
    until = time.monotonic() + 10
    while (found := list(outputs.rglob(".inferenz-*"))) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def without_ids(records: tuple[PictureRecord, ...]) -> list[PictureRecord]:
    return [replace(record, id=0) for record in records]
