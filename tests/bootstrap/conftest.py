from __future__ import annotations

from pathlib import Path

import pytest

PYPROJECT = """
[project]
dependencies = ["torch>=2.7", "gradio>=6.10,<7"]
[project.optional-dependencies]
test = ["pytest>=8"]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with little in it but everything that the bootstrap reads."""
    folder = tmp_path / "inferenz"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (folder / "requirements.lock").write_text("# pins\ngradio==6.31.0\ntorch==2.13.0\n", encoding="utf-8")
    (folder / "requirements-test.lock").write_text("pytest==9.2.0\n", encoding="utf-8")
    return folder
