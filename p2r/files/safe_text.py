"""Untrusted text for people's eyes and programs: what it would do there is taken from it.

Words of models, judges, annotators and file names may hold characters that are not seen and change
what is, and cells that a spreadsheet takes for formulas.
"""

from __future__ import annotations

import re
from typing import Any

# C0 and C1 controls but tab and line feed; marks that turn the direction of writing, characters of
# no width that hide in words, and separators that break lines in some programs only.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_HALF = re.compile("[\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "|", "%")


def show_unseen(text: str) -> str:
    """The text with every unseen character written out: a right-to-left mark as "[U+202E]".

    Tabs and line feeds stay, "\\r\\n" is a line feed, half characters become U+FFFD.
    """
    text = _HALF.sub("\ufffd", text.replace("\r\n", "\n"))
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def spreadsheet_cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: such text begins with an apostrophe.

    Numbers stay numbers. Characters that cannot stand in a file of text become U+FFFD.
    """
    if not isinstance(value, str):
        return value
    text = _HALF.sub("\ufffd", value).replace("\0", "\ufffd")
    begins = text.lstrip()[:1]
    return f"'{text}" if begins in _FORMULA or text[:1] in ("\t", "\r", "\n") else text
