"""Write down what a CUDA device draws: `python -m tests.diffusion.record_cuda tests/diffusion/cuda.json`.

For a few seeds: the first draws of torch.randn at a latent's size, eight numbers at each end of each and their sum.
`test_cuda.py` compares noise source "NV" with the same, drawn anew where there is a device.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

SEEDS = (0, 1, 31337, 2**32 + 5, 2**63 - 1)
SHAPES = ((1, 4, 8, 8), (1, 4, 64, 64), (1, 4, 128, 128))
DRAWS = 3
EDGE = 8


def recorded(device: torch.device) -> list[dict[str, Any]]:
    """One entry per seed, shape and draw."""
    found: list[dict[str, Any]] = []
    for seed in SEEDS:
        for shape in SHAPES:
            generator = torch.Generator(device).manual_seed(seed)
            for draw in range(DRAWS):
                values = torch.randn(shape, generator=generator, device=device).flatten().double().cpu()
                found.append(
                    {
                        "seed": seed, "shape": list(shape), "draw": draw, "first": values[:EDGE].tolist(),
                        "last": values[-EDGE:].tolist(), "sum": float(values.sum()),
                    }
                )  # fmt: skip
    return found


if __name__ == "__main__":
    chosen = torch.device("cuda")
    name = torch.cuda.get_device_name(chosen)
    content = {"device": name, "torch": torch.__version__, "draws": recorded(chosen)}
    Path(sys.argv[1]).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
