"""Plans for tests of everything that only carries them."""

from __future__ import annotations

from typing import Any

from modules.core.generation import FileRef, GenerationPlan


def plan(prompt: str = "a red apple", *, pictures: int = 1, steps: int = 3, **changes: Any) -> GenerationPlan:
    """A plan as it was resolved; seeds are 1, 2, 3 ..."""
    values: dict[str, Any] = {
        "checkpoint": FileRef(name="starter", path="/models/starter.safetensors"),
        "family": "sd1",
        "prompt": prompt,
        "negative_prompt": "",
        "clip_skip": 1,
        "sampler": "euler",
        "schedule": "normal",
        "steps": steps,
        "width": 64,
        "height": 64,
        "cfg_scale": 7.0,
        "seeds": tuple(range(1, pictures + 1)),
    }
    return GenerationPlan(**{**values, **changes})
