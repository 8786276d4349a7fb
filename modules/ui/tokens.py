"""The look in tokens: two neutral families (ink, paper), one accent (coral), one colour for danger, one for success.

The stylesheet, Gradio's theme and the pages that come without Gradio (login, starting) read these tokens, so that a
value is written once. Contrast of every text token on every surface it is used on is at least 4.5:1
(tests/ui/test_theme.py computes it).
"""

from __future__ import annotations

from collections.abc import Mapping

# name: (paper, ink). Surfaces from far to near: page, surface, raised, field.
TOKENS: Mapping[str, tuple[str, str]] = {
    "page": ("#f4efe8", "#141211"),
    "surface": ("#fbf8f4", "#1b1917"),
    "raised": ("#ffffff", "#24211f"),
    "field": ("#ffffff", "#121010"),
    "stage": ("#ece5dc", "#0e0d0c"),
    "line": ("#e0d7cb", "#322d2a"),
    "line-strong": ("#bfb3a4", "#4a433e"),
    "text": ("#241f1b", "#f2ede7"),
    "muted": ("#675d54", "#aaa097"),
    "accent": ("#ff7d5c", "#ff7d5c"),
    "accent-hover": ("#ff9072", "#ff9072"),
    "accent-soft": ("#ffe4db", "#3a211a"),
    "accent-text": ("#ae3a1b", "#ff9678"),
    "on-accent": ("#2b0f07", "#2b0f07"),
    "danger": ("#b42318", "#ff9a8f"),
    "danger-soft": ("#fde7e4", "#3a1a17"),
    "success": ("#1d6f44", "#7fd3a3"),
}

SCALES: Mapping[str, str] = {
    "space-1": "4px",
    "space-2": "8px",
    "space-3": "12px",
    "space-4": "16px",
    "space-6": "24px",
    "radius": "6px",
    "radius-large": "10px",
    "size-small": "12px",
    "size-body": "14px",
    "size-title": "20px",
    "font": "'Inferenz Inter', 'Inter', 'Segoe UI', system-ui, -apple-system, 'Helvetica Neue', Arial, sans-serif",
    "mono": "ui-monospace, 'SF Mono', 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
}


def token_css() -> str:
    """The tokens as custom properties: paper on :root, ink under Gradio's `.dark`."""
    paper = "".join(f"--{name}:{light};" for name, (light, _) in TOKENS.items())
    ink = "".join(f"--{name}:{dark};" for name, (_, dark) in TOKENS.items())
    scales = "".join(f"--{name}:{value};" for name, value in SCALES.items())
    return f":root{{{scales}{paper}color-scheme:light}}\n.dark{{{ink}color-scheme:dark}}\n"


def system_css() -> str:
    """The tokens for a document before or without Gradio: ink where the system asks for dark.

    The classes `dark` and `light` on the root element overrule the system.
    """
    paper = "".join(f"--{name}:{light};" for name, (light, _) in TOKENS.items())
    ink = "".join(f"--{name}:{dark};" for name, (_, dark) in TOKENS.items())
    return (
        f"{token_css()}@media (prefers-color-scheme:dark){{:root{{{ink}color-scheme:dark}}}}\n"
        f":root.light{{{paper}color-scheme:light}}\n"
    )
