"""The look of the case browser: theme, styles, script, and the frame that the pages fill.

No font, style or script comes from elsewhere: the browser works without a network.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_STATIC = Path(__file__).parent / "static"
# In the head, not by Gradio's css=, which takes selectors apart at their commas.
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
    """A plain theme on the system's own fonts."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="md",
        spacing_size="sm",
        text_size="sm",
        font=("system-ui", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"),
    )
