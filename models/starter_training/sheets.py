"""Pictures side by side, with words below them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CAPTION = 16  # pixels


def save_sheet(
    pictures: Sequence[NDArray[np.uint8]], file: Path, *, columns: int, captions: Sequence[str] = ()
) -> None:
    """(S, S, 3) pictures in rows of `columns`, as PNG."""
    side, gap = pictures[0].shape[0], CAPTION if captions else 0
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + 2), rows * (side + 2 + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, picture in enumerate(pictures):
        left, top = number % columns * (side + 2), number // columns * (side + 2 + gap)
        sheet.paste(Image.fromarray(picture), (left, top))
        if captions:
            draw.text((left, top + side + 2), captions[number][: side // 6], fill="black")
    sheet.save(file)
