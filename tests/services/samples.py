"""Plans, pictures and facts for the history's tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from modules.core.generation import FileRef, GenerationPlan
from modules.imaging.encode import encode_png
from modules.services.history import EngineFacts

FACTS = EngineFacts(sampler="Euler a", schedule="Karras", device="cpu", dtype="float32", seconds=1.5, version="test")


def make_plan(**values: Any) -> GenerationPlan:
    base: dict[str, Any] = {
        "checkpoint": FileRef(name="starter", path="starter.safetensors"), "family": "sd1",
        "prompt": "a red apple", "negative_prompt": "blurry", "clip_skip": 1, "sampler": "euler_a",
        "schedule": "karras", "steps": 20, "width": 64, "height": 64, "cfg_scale": 7.0, "seeds": (1, 2, 3, 4),
    }  # fmt: skip
    return GenerationPlan(**(base | values))


def make_png(shade: int = 0, side: int = 64) -> bytes:
    return encode_png(np.full((side, side, 3), shade, dtype=np.uint8))
