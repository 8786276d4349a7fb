from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.services.history import History
from modules.services.state import StateDatabase
from tests.services.histories import DAY


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDatabase]:
    database = StateDatabase(tmp_path / "state.sqlite3")
    yield database
    database.close()


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def history(outputs: Path, state: StateDatabase) -> Iterator[History]:
    opened = History(outputs, state, now=lambda: DAY)
    yield opened
    opened.close()
