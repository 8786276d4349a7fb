"""The real app with an executor that draws instead of computing: what tests of the page and its routes run on."""

from __future__ import annotations

from pathlib import Path

from modules.app import ROOT, App, AppConfig, ServerConfig, build_app
from tests.fakes.drawing import DrawingExecutor


def drawn_app(folder: Path, executor: DrawingExecutor, *, server: ServerConfig | None = None) -> App:
    """Its outputs are in `folder`; its only checkpoint is the starter, of which the header alone is read."""
    config = AppConfig(
        data_dir=folder, models_dirs=(ROOT / "models",), wildcards_dirs=(folder / "wildcards",),
        server=server or ServerConfig(),
    )  # fmt: skip
    return build_app(config, executor=executor)
