"""The look of the case browser: theme, styles, script, and the frame that the pages fill.

No font, style or script comes from elsewhere: the browser works without a network.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_STATIC = Path(__file__).parent / "static"
STYLES = "\n".join(
    (_STATIC / name).read_text(encoding="utf-8")
    for name in ("base.css", "find.css", "case.css", "pages.css")
)
HEAD = "".join(
    f"<script>{(_STATIC / name).read_text(encoding='utf-8')}</script>"
    for name in ("browser.js", "plots.js")
)
SHELL = (_STATIC / "shell.html").read_text(encoding="utf-8")


def make_theme() -> gr.themes.Base:
    """A plain theme on the system's own fonts."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="md",
        font=("system-ui", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"),
    )
