"""What AUTOMATIC1111 hides behind "Extra" beside the seed: variations, seeds of another size, and tiling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from modules.ui.markup import block, icon
from modules.ui.sections import closed_section
from modules.ui.shell import Shell


def extra_seed(shell: Shell, values: Mapping[str, Any]) -> dict[str, Any]:
    """The section's fields by their names in a request."""
    t = shell.texts

    def slider(name: str, high: float, step: float) -> gr.Slider:
        return gr.Slider(
            0, high, values[name], step=step, label=t(name), elem_id=name.replace("_", "-"), buttons=[], container=True
        )

    with closed_section(shell, "seed"):
        with gr.Row(elem_id="variation-seed-row"):
            seed = gr.Textbox(
                values["variation_seed"], label=t("variation_seed"), elem_id="variation-seed", max_lines=1, scale=1
            )
            block(seed_tools(shell, "variation_seed"), elem_classes="seed-tools-place")
        strength = slider("variation_strength", 1, 0.01)
        width, height = slider("seed_resize_width", 2048, 8), slider("seed_resize_height", 2048, 8)
        tiling = gr.Checkbox(values["tiling"], label=t("tiling"), elem_id="tiling")
    return {
        "variation_seed": seed, "variation_strength": strength, "seed_resize_width": width,
        "seed_resize_height": height, "tiling": tiling,
    }  # fmt: skip


def seed_tools(shell: Shell, field: str) -> str:
    """Two buttons beside a seed's field: a random one, and that of the picture shown."""
    element = field.replace("_", "-")

    def button(name: str, sign: str) -> str:
        words = shell.texts(f"{field}.{name}")
        return (
            f'<button type="button" class="chip" id="{element}-{"dice" if name == "random" else name}" title="{words}" '
            f'aria-label="{words}">{icon(sign)}</button>'
        )

    return f'<div class="seed-tools" data-field="{field}">{button("random", "dices")}{button("reuse", "recycle")}</div>'
