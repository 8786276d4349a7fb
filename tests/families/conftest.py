"""The families as the program collects them."""

from __future__ import annotations

import pytest

from modules.core.family import Family
from modules.core.plugin import Registry, collect


@pytest.fixture(scope="session")
def families() -> Registry[Family]:
    return collect("modules.families", Family, group="inferenz.families")
