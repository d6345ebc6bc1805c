"""The look of the case browser: theme, styles, scripts, and the frame around the pages.

No font, style or script is loaded from another server, so the browser works offline.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from markupsafe import Markup

from p2r.browser.words import GLOSSARY

_STATIC = Path(__file__).parent / "static"


def read_static(name: str) -> str:
    """Return the content of a static file."""
    return (_STATIC / name).read_text(encoding="utf-8")


# Styles go into the head, because Gradio's css= breaks selectors at their commas.
HEAD = "".join(
    f"<{tag}>{read_static(name)}</{tag}>"
    for tag, name in (
        ("style", "design.css"),
        ("style", "base.css"),
        ("style", "find.css"),
        ("style", "case.css"),
        ("style", "pages.css"),
        ("style", "study.css"),
        ("script", "plots.js"),
        ("script", "tokens.js"),
        ("script", "evidence.js"),
        ("script", "stories.js"),
        ("script", "browser.js"),
    )
)
_TERMS = Markup("").join(
    Markup('<dt>{}</dt><dd data-meaning="{}">{}</dd>').format(written.replace("_", " "), name, text)
    for name, (written, text) in GLOSSARY.items()
)
SHELL = read_static("shell.html").replace("GLOSSARY", _TERMS)


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
