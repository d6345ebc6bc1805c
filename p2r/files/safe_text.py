"""Make untrusted text safe to show in terminals, HTML, Markdown and spreadsheets.

Text from models, judges, annotators and file names can contain invisible characters that change
how the visible ones look, and cells that a spreadsheet would run as formulas.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

# C0 and C1 controls except tab and line feed, marks that change the direction of writing,
# characters without width, and separators that break lines only in some programs.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# Environment variables with these endings hold keys, for example OPENAI_API_KEY and HF_TOKEN.
_KEY_NAMES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
_SHORTEST_KEY = 8  # shorter values ("none", "EMPTY") are no keys
_HALF = re.compile("[\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "|", "%")


def show_unseen(text: str) -> str:
    """Return the text with every invisible character written out, for example as "[U+202E]".

    Tabs and line feeds stay, "\\r\\n" becomes a line feed, lone surrogates become U+FFFD.
    """
    text = _HALF.sub("\ufffd", text.replace("\r\n", "\n"))
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def show_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the pieces of one text as `show_unseen` shows it. A "\\r" waits for the next piece."""
    waiting = ""
    for piece in pieces:
        text = waiting + piece
        waiting = "\r" if text.endswith("\r") else ""
        yield show_unseen(text.removesuffix(waiting))
    yield show_unseen(waiting)


def hide_keys(text: str) -> str:
    """Return the text without the keys of this environment; a server may repeat the key it got."""
    for name, value in os.environ.items():
        if name.upper().endswith(_KEY_NAMES) and len(value) >= _SHORTEST_KEY:
            text = text.replace(value, "[key]")
    return text


def spreadsheet_cell(value: Any) -> Any:
    """Return a value that no spreadsheet runs as a formula: it puts an apostrophe before such text.

    Numbers stay numbers. Characters that a text file cannot hold become U+FFFD.
    """
    if not isinstance(value, str):
        return value
    text = _HALF.sub("\ufffd", value).replace("\0", "\ufffd")
    begins = text.lstrip()[:1]
    return f"'{text}" if begins in _FORMULA or text[:1] in ("\t", "\r", "\n") else text


def escape_markdown(text: str) -> str:
    """Return text for Markdown in one line, without markup, HTML and invisible characters.

    Keeps a `_` inside a word ("pa_grpo"): there it is not markup.
    """
    plain = show_unseen(" ".join(str(text).split())).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]|]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", plain)
