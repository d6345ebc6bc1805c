"""HTML text made on the server: the one place where untrusted words become markup.

Everything that comes from traces, questions, judges and file names is untrusted. It enters a page
only through `Markup(...).format(...)`, which escapes every argument that is not markup itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from p2r.records import Case
from p2r.store import RIGHT_ACCURACY

Row = Mapping[str, Any]
# Words and mark of each verdict and outcome: (style, mark, observation's word, answer's word).
VERDICT_WORDS = {
    "yes": ("good", "✓", "sufficient"),
    "no": ("bad", "✗", "not sufficient"),
    "unknown": ("unknown", "?", "no verdict"),
}
OUTCOME_WORDS = {
    "right": ("good", "✓", "right"),
    "wrong": ("bad", "✗", "wrong"),
    "unknown": ("unknown", "?", "not scored"),
}
# What each cell of the 2 x 2 means; the two mismatches are what an outcome reward cannot see.
MEANINGS = {
    ("yes", "right"): "looked first, then thought",
    ("yes", "wrong"): "reasoning failed",
    ("no", "right"): "right by luck",
    ("no", "wrong"): "perception failed",
}


def case_link(case_id: str) -> str:
    """The permanent address of a case, relative to the browser's own."""
    return "?" + urlencode({"case": case_id})


def verdict_of(case: Case) -> str:
    """yes, no or unknown: the judge's word on the observation."""
    sufficient = case.verdict.sufficient if case.verdict else None
    return {True: "yes", False: "no", None: "unknown"}[sufficient]


def outcome_of(case: Case) -> str:
    """right, wrong or unknown: the answer against the pipeline's threshold."""
    if case.accuracy is None:
        return "unknown"
    return "right" if case.accuracy >= RIGHT_ACCURACY else "wrong"


def chip(style: str, text: Any) -> Markup:
    """A small label; `style` is one of ours, `text` anybody's."""
    return Markup('<span class="chip {}">{}</span>').format(style, text)


def join(parts: Iterable[Markup], between: str = "") -> Markup:
    """The parts one after the other."""
    return Markup(between).join(parts)


def mark_chip(words: tuple[str, str, str], subject: str) -> Markup:
    """The chip of a verdict (subject: observation) or an outcome (subject: answer) in a list."""
    style, mark, word = words
    short = {"observation": "obs", "answer": "ans"}[subject]
    return Markup('<span class="chip {}" title="{}: {}">{} {}</span>').format(
        style, subject, word, mark, short
    )


def shorten(text: str, length: int) -> str:
    """One line of at most `length` characters."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
