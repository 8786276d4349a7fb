"""Our PNG encoder against Pillow's levels; the pixels are compared as well.

python -m tests.benchmarks.png [--size 1024] [--runs 7]
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from modules.imaging.encode import encode_png, encoded
from tests.benchmarks import harness


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=7)
    parser.add_argument("--size", type=int, default=1024, help="pixels of a side (default %(default)s)")
    options = parser.parse_args()
    facts, side = harness.machine(), options.size
    random = np.random.default_rng(0)
    smooth = Image.effect_noise((side // 16, side // 16), 60).resize((side, side), Image.Resampling.BICUBIC)
    grain = random.integers(-3, 4, (side, side, 3))
    pixels = np.clip(np.asarray(smooth.convert("RGB")).astype(np.int16) + grain, 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    ways: dict[str, Callable[[], bytes]] = {
        "Pillow level 6": lambda: encoded(image, "PNG"),
        "Pillow level 1": lambda: encoded(image, "PNG", compress_level=1),
        "ours": lambda: encode_png(pixels),
    }
    made: dict[str, bytes] = {}

    def run(name: str, encode: Callable[[], bytes]) -> None:
        made[name] = encode()

    times = harness.alternate({name: partial(run, name, way) for name, way in ways.items()}, runs=options.runs)
    rows = []
    for name, time in times.items():
        with Image.open(io.BytesIO(made[name])) as back:
            equal = np.array_equal(np.asarray(back), pixels)
        rows.append(
            {"": name, "wall ms": time.wall * 1000, "bytes": f"{len(made[name]):,}",
             "pixels": "equal" if equal else "**different**"}
        )  # fmt: skip
    harness.report(f"PNG, {side} x {side}, median of {options.runs}", rows, facts=facts, output=options.json)


if __name__ == "__main__":
    main()
