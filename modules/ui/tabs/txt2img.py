"""The txt2img tab: prompts, controls, the picture and what was made in this session.

The form's values live in Gradio's components; static/form.js reads, keeps, fills and sends them, so that a picture can
be asked for, and a typed prompt survives, whatever the connection does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from modules import samplers, schedules
from modules.core.plugin import Registry
from modules.core.sampling import Sampler, Schedule
from modules.ui.choices import refreshed
from modules.ui.defaults import FIELDS, form_values, sampling_choices
from modules.ui.extra_seed import extra_seed, seed_tools
from modules.ui.guidance_section import guidance_section
from modules.ui.markup import block, icon
from modules.ui.paste import paste_button
from modules.ui.sections import closed_section
from modules.ui.shell import Shell, tab

ASPECTS = ("1:1", "4:3", "3:4", "16:9", "9:16")


@tab("txt2img", label="tab.txt2img", rank=10)
def txt2img(shell: Shell) -> None:
    values = form_values(shell.app)
    with gr.Column(elem_id="t2i"):
        prompts = _prompts(shell, values)
        generate, interrupt, skip = _actions(shell)
        block('<div id="styles-tools"></div>', elem_id="styles-place")
        controls = _controls(shell, values)
        block('<section id="inf-canvas" class="canvas"></section>', elem_id="t2i-canvas")
        block('<aside id="inf-strip"></aside>', elem_id="t2i-strip")
        bridge = gr.Button("", elem_id="form-bridge", elem_classes="bridge")
        # A JSON list of names: static/styles.js shows it as chips
        styles = gr.Textbox(values["styles"], elem_id="styles", elem_classes="bridge", label=shell.texts("styles"))
    top = {
        "checkpoint": shell.checkpoint, "vae": shell.vae, "text_encoder": shell.text_encoder,
        "clip_skip": shell.clip_skip,
    }  # fmt: skip
    _connect({**top, **prompts, **controls, "styles": styles}, bridge, generate, interrupt, skip)


def _connect(
    form: Mapping[str, Any], bridge: gr.Button, generate: gr.Button, interrupt: gr.Button, skip: gr.Button
) -> None:
    """Browser-side events only: the values go to POST /inferenz/jobs without a detour through Gradio's queue."""
    fields = [form[name] for name in FIELDS]
    browser: dict[str, Any] = {"fn": None, "show_progress": "hidden", "queue": False}
    generate.click(inputs=fields, js="(...values) => { inferenz.generate(values); return []; }", **browser)
    interrupt.click(js="() => { inferenz.interrupt(); return []; }", **browser)
    skip.click(js="() => { inferenz.skip(); return []; }", **browser)
    bridge.click(inputs=fields, outputs=fields, js="(...values) => inferenz.merge(values)", **browser)
    gr.on(
        [field.change for field in fields],
        inputs=fields,
        js="(...values) => { window.inferenz?.keep(values); return []; }",
        **browser,
    )


def _prompts(shell: Shell, values: Mapping[str, Any]) -> dict[str, Any]:
    with gr.Column(elem_id="t2i-prompts"):
        return {
            "prompt": _prompt(shell, "prompt", lines=3, value=values["prompt"]),
            "negative_prompt": _prompt(shell, "negative_prompt", lines=1, value=values["negative_prompt"]),
        }


def _prompt(shell: Shell, name: str, *, lines: int, value: str) -> gr.Textbox:
    t, element = shell.texts, name.replace("_", "-")
    with gr.Column(elem_classes="prompt-box"):
        box = gr.Textbox(
            value, label=t(name), placeholder=t(f"{name}.placeholder"), lines=lines, max_lines=12, elem_id=element
        )
        paste = paste_button(t) if name == "prompt" else ""
        counter = f'<output id="count-{element}" class="inf-count">0/75</output>'
        block(f'<div class="paste-line">{paste}{counter}</div>', elem_classes="count-place")
        if name == "negative_prompt":
            block(f'<div id="unused-negative" class="fine" role="status">{t("negative_prompt.unused")}</div>',
                  elem_id="unused-negative-place")  # fmt: skip
        block(f'<div id="lint-{element}" class="lint" role="status"></div>', elem_classes="lint-place")
    return box


def _actions(shell: Shell) -> tuple[gr.Button, gr.Button, gr.Button]:
    t = shell.texts
    with gr.Column(elem_id="t2i-actions"):
        generate = gr.Button(t("generate"), variant="primary", elem_id="generate")
        with gr.Row(elem_id="stop-row"):
            interrupt = gr.Button(t("interrupt"), elem_id="interrupt")
            skip = gr.Button(t("skip"), elem_id="skip")
    return generate, interrupt, skip


def _controls(shell: Shell, values: Mapping[str, Any]) -> dict[str, Any]:
    t = shell.texts

    def slider(name: str, low: float, high: float, step: float) -> gr.Slider:
        return gr.Slider(
            low,
            high,
            values[name],
            step=step,
            label=t(name),
            elem_id=name.replace("_", "-"),
            buttons=[],
            container=True,
        )

    with gr.Column(elem_id="t2i-controls"):
        block(_controls_toggle(shell), elem_id="controls-toggle-place")
        with gr.Column(elem_classes="section"):
            with gr.Row(elem_classes="pair"):
                sampler, schedule = _sampling(shell, values)
            steps = slider("steps", 1, 150, 1)
        with gr.Column(elem_classes="section"):
            width, height = slider("width", 64, 2048, 8), slider("height", 64, 2048, 8)
            block(_size_tools(shell))
        with gr.Column(elem_classes="section"):
            cfg_scale = slider("cfg_scale", 1, 30, 0.5)
            # static/wishes.js shows them for models that have them
            distilled, shift = slider("distilled_cfg_scale", 0, 30, 0.1), slider("shift", 0, 12, 0.05)
            with gr.Row(elem_classes="pair"):
                batch_count, batch_size = slider("batch_count", 1, 100, 1), slider("batch_size", 1, 16, 1)
        with gr.Column(elem_classes="section"), gr.Row(elem_id="seed-row"):
            seed = gr.Textbox(values["seed"], label=t("seed"), elem_id="seed", max_lines=1, scale=1)
            block(seed_tools(shell, "seed"), elem_classes="seed-tools-place")
        block('<div id="profile-tools"></div>', elem_id="profile-place")
        extra = extra_seed(shell, values)
        guidance = guidance_section(shell, values["guidance"])
        with closed_section(shell, "options"):
            block('<div id="options-fields"></div>')
            # JSON of what differs from its default: static/options.js shows it as fields
            options = gr.Textbox(
                values["sampler_options"], elem_id="sampler-options", elem_classes="bridge", label=t("section.options")
            )
    return {
        "sampler": sampler, "schedule": schedule, "steps": steps, "width": width, "height": height,
        "cfg_scale": cfg_scale, "batch_count": batch_count, "batch_size": batch_size, "seed": seed,
        "sampler_options": options, "guidance": guidance, "distilled_cfg_scale": distilled,
        "shift": shift, **extra,
    }  # fmt: skip


def _sampling(shell: Shell, values: Mapping[str, Any]) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Sampler and schedule. When a list is opened, those that do not go with the chosen model are marked."""
    lists: dict[str, Registry[Sampler] | Registry[Schedule]] = {
        "sampler": samplers.registry(), "schedule": schedules.registry(),
    }  # fmt: skip
    found = []
    for name, kinds in lists.items():
        field = gr.Dropdown(sampling_choices(kinds), value=values[name], label=shell.texts(name), elem_id=name)
        refreshed(field, name)
        found.append(field)
    return found[0], found[1]


def _controls_toggle(shell: Shell) -> str:
    """On a phone the controls wait behind this button."""
    return (
        '<button type="button" class="tool" id="controls-toggle" data-section="controls" aria-expanded="false" '
        'aria-controls="t2i-controls" data-fields="vae text_encoder clip_skip">'
        f"<span>{shell.texts('controls')}</span>{icon('sliders-horizontal')}</button>"
    )


def _size_tools(shell: Shell) -> str:
    t = shell.texts
    chips = "".join(
        f'<button type="button" class="chip" data-aspect="{ratio}" aria-pressed="false">{ratio}</button>'
        for ratio in ASPECTS
    )
    swap = (
        f'<button type="button" class="chip wide" id="swap" title="{t("swap")}" aria-label="{t("swap")}">'
        f"{icon('arrow-left-right')}</button>"
    )
    native = f'<button type="button" class="chip native" id="native" title="{t("native.title")}" hidden></button>'
    return f'<div id="size-tools" role="group" aria-label="{t("aspect")}">{chips}{swap}{native}</div>'
