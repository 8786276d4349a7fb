"""Gradio's theme, told in our tokens."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils.colors import Color

CORAL = Color(
    name="coral", c50="#fff4f0", c100="#ffe4db", c200="#ffcbba", c300="#ffab90", c400="#ff9072", c500="#ff7d5c",
    c600="#d9552f", c700="#ae3a1b", c800="#84301b", c900="#5c2317", c950="#2b0f07",
)  # fmt: skip
NEUTRAL = Color(
    name="ink", c50="#fbf8f4", c100="#f4efe8", c200="#e0d7cb", c300="#bfb3a4", c400="#aaa097", c500="#7d7269",
    c600="#675d54", c700="#4a433e", c800="#322d2a", c900="#1b1917", c950="#141211",
)  # fmt: skip


def build_theme() -> gr.themes.Base:
    """Gradio's theme: every variable that the page uses points to a token, the same in light and dark."""
    theme = gr.themes.Base(
        primary_hue=CORAL, secondary_hue=NEUTRAL, neutral_hue=NEUTRAL,
        radius_size=gr.themes.sizes.radius_sm, text_size=gr.themes.sizes.text_sm,
        spacing_size=gr.themes.sizes.spacing_sm,
        font=("Inferenz Inter", "Inter", "Segoe UI", "system-ui", "sans-serif"),
        font_mono=("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"),
    )  # fmt: skip
    both = {
        "body_background_fill": "var(--page)",
        "body_text_color": "var(--text)",
        "body_text_color_subdued": "var(--muted)",
        "background_fill_primary": "var(--surface)",
        "background_fill_secondary": "var(--raised)",
        "border_color_primary": "var(--line)",
        "border_color_accent": "var(--accent)",
        "color_accent_soft": "var(--accent-soft)",
        "link_text_color": "var(--accent-text)",
        "link_text_color_hover": "var(--accent-text)",
        "link_text_color_visited": "var(--accent-text)",
        "link_text_color_active": "var(--accent-text)",
        "block_background_fill": "transparent",
        "block_border_width": "0px",
        "block_info_text_color": "var(--muted)",
        "block_label_background_fill": "transparent",
        "block_label_border_width": "0px",
        "block_label_text_color": "var(--muted)",
        "block_title_text_color": "var(--muted)",
        "panel_background_fill": "transparent",
        "panel_border_width": "0px",
        "input_background_fill": "var(--field)",
        "input_background_fill_focus": "var(--field)",
        "input_background_fill_hover": "var(--field)",
        "input_border_color": "var(--line)",
        "input_border_color_hover": "var(--line-strong)",
        "input_border_color_focus": "var(--accent)",
        "input_border_width": "1px",
        "input_placeholder_color": "var(--muted)",
        "input_shadow": "none",
        "input_shadow_focus": "none",
        "checkbox_background_color": "var(--field)",
        "checkbox_background_color_focus": "var(--field)",
        "checkbox_background_color_hover": "var(--field)",
        "checkbox_background_color_selected": "var(--accent)",
        "checkbox_border_color": "var(--line-strong)",
        "checkbox_border_color_selected": "var(--accent)",
        "checkbox_label_background_fill": "var(--raised)",
        "checkbox_label_background_fill_hover": "var(--raised)",
        "checkbox_label_background_fill_selected": "var(--accent-soft)",
        "checkbox_label_text_color": "var(--text)",
        "slider_color": "var(--accent)",
        "button_primary_background_fill": "var(--accent)",
        "button_primary_background_fill_hover": "var(--accent-hover)",
        "button_primary_border_color": "transparent",
        "button_primary_text_color": "var(--on-accent)",
        "button_secondary_background_fill": "var(--raised)",
        "button_secondary_background_fill_hover": "var(--raised)",
        "button_secondary_border_color": "var(--line)",
        "button_secondary_border_color_hover": "var(--line-strong)",
        "button_secondary_text_color": "var(--text)",
        "button_cancel_background_fill": "var(--danger-soft)",
        "button_cancel_background_fill_hover": "var(--danger-soft)",
        "button_cancel_border_color": "transparent",
        "button_cancel_text_color": "var(--danger)",
        "error_background_fill": "var(--danger-soft)",
        "error_border_color": "var(--danger)",
        "error_text_color": "var(--danger)",
        "loader_color": "var(--accent)",
        "accordion_text_color": "var(--text)",
        "code_background_fill": "var(--field)",
        "table_border_color": "var(--line)",
        "table_even_background_fill": "var(--surface)",
        "table_odd_background_fill": "var(--surface)",
    }
    once = {
        "block_padding": "0",
        "block_title_padding": "0",
        "block_label_padding": "0",
        "block_title_text_weight": "500",
        "block_title_text_size": "var(--size-small)",
        "block_radius": "var(--radius)",
        "container_radius": "var(--radius)",
        "input_radius": "var(--radius)",
        "input_padding": "8px 10px",
        "input_text_size": "var(--size-body)",
        "button_large_radius": "var(--radius)",
        "button_medium_radius": "var(--radius)",
        "button_small_radius": "var(--radius)",
        "button_large_text_weight": "600",
        "button_border_width": "1px",
        "form_gap_width": "0px",
        "layout_gap": "var(--space-3)",
    }
    known = set(vars(theme))
    dark = {f"{name}_dark": value for name, value in both.items() if f"{name}_dark" in known}
    return theme.set(**both, **dark, **once)
