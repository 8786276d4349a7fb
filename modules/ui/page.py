"""The page: header, tabs and footer as one Gradio Blocks per language."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import gradio as gr

from modules import __version__
from modules.ui.assets import STYLES, static_version
from modules.ui.choices import refreshed
from modules.ui.defaults import checkpoint_choices, form_values
from modules.ui.markup import block
from modules.ui.shell import Shell, all_tabs
from modules.ui.texts import Texts

if TYPE_CHECKING:
    from modules.app import App


def build_page(app: App, texts: Texts) -> gr.Blocks:
    """The whole page in one language."""
    with gr.Blocks(title="Inferenz", analytics_enabled=False, fill_width=True) as page:
        block('<div id="inf-bar" role="status" hidden></div>', elem_id="inf-bar-place")
        shell = _top(app, texts, page)
        with gr.Tabs(elem_id="inf-tabs"):
            for each in all_tabs().values():
                with gr.Tab(texts(each.label), id=each.name, elem_id=f"tab-{each.name}", render_children=True):
                    each.build(shell)
        block(_foot(texts))
    return page


def _top(app: App, texts: Texts, page: gr.Blocks) -> Shell:
    values = form_values(app)
    with gr.Row(elem_id="inf-top"):
        block('<div class="brand"><i></i>Inferenz</div>', elem_id="inf-brand")
        checkpoint = gr.Dropdown(
            checkpoint_choices(app), value=values["checkpoint"], label=texts("checkpoint"), elem_id="checkpoint"
        )
        block('<div id="parts-choice"></div>', elem_id="parts-place")
        clip_skip = gr.Number(
            values["clip_skip"], label=texts("clip_skip"), minimum=1, maximum=12, precision=0, elem_id="clip-skip"
        )
        block('<div id="inf-tools"></div>', elem_id="tools-place")
        block('<div id="parts-note" role="status"></div>', elem_id="parts-note-place")
        # A name, and a JSON list of names: static/parts.js shows both as one choice
        vae = gr.Textbox(values["vae"], elem_id="vae", elem_classes="bridge", label=texts("vae"))
        text_encoder = gr.Textbox(
            values["text_encoder"], elem_id="text-encoder", elem_classes="bridge", label=texts("text_encoder")
        )
    refreshed(checkpoint, "checkpoint")
    return Shell(
        app=app, texts=texts, page=page, checkpoint=checkpoint, vae=vae, text_encoder=text_encoder, clip_skip=clip_skip
    )


def _foot(texts: Texts) -> str:
    return (
        f'<footer class="foot"><span>Inferenz {html.escape(__version__)}</span>'
        f'<span id="inf-status" aria-label="{html.escape(texts("footer.status"))}"></span></footer>'
    )


def head() -> str:
    """What Gradio puts into the head: our stylesheets, after its own."""
    version = static_version()
    return "".join(f'<link rel="stylesheet" href="inferenz/static/{name}.css?v={version}">' for name in STYLES)
