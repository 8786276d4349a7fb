"""Very small pipelines of diffusers with random weights, as folders in its layout, for the adapter's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.backbones.pipelines import by_language_model, by_t5

BUILDERS: dict[str, Callable[[], Any]] = {**by_t5.BUILDERS, **by_language_model.BUILDERS}


def write_pipeline(name: str, folder: Path) -> Path:
    """Write the pipeline `name` of BUILDERS to a folder; returns its model_index.json."""
    torch.manual_seed(0)
    pipeline = BUILDERS[name]()
    pipeline.save_pretrained(folder, safe_serialization=True)
    index = folder / "model_index.json"
    if name == "prx":
        by_t5.as_prx_is_published(index)
    return index
