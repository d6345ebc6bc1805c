"""The look of the case browser: theme, styles, scripts, and the frame around the pages.

No font, style or script is loaded from another server, so the browser works offline.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_STATIC = Path(__file__).parent / "static"
# Styles go into the head, because Gradio's css= breaks selectors at their commas.
HEAD = "".join(
    f"<{tag}>{(_STATIC / name).read_text(encoding='utf-8')}</{tag}>"
    for tag, name in (
        ("style", "base.css"),
        ("style", "find.css"),
        ("style", "case.css"),
        ("style", "pages.css"),
        ("script", "plots.js"),
        ("script", "tokens.js"),
        ("script", "browser.js"),
    )
)
SHELL = (_STATIC / "shell.html").read_text(encoding="utf-8")


def make_theme() -> gr.themes.Base:
    """Return a plain theme with the fonts of the system."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="md",
        spacing_size="sm",
        text_size="sm",
        font=("system-ui", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"),
    )
