"""HTML text made on the server: the one place where untrusted words become markup.

Everything that comes from traces, questions, judges and file names is untrusted. It enters a page
only through `Markup(...).format(...)`, which escapes every argument that is not markup itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from p2r.cases.selection import RIGHT_ACCURACY
from p2r.files.safe_text import show_unseen
from p2r.records import Case

CaseRow = Mapping[str, Any]
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
    ("yes", "right"): "seen and solved",
    ("yes", "wrong"): "reasoning failed",
    ("no", "right"): "right by luck",
    ("no", "wrong"): "perception failed",
}
# Longer texts are cut on the page, with a link to the whole.
LONGEST_TEXT = 20_000


def visible(text: Any) -> str:
    """Anybody's text with what is not seen of it written out."""
    return show_unseen(str(text))


def verdict_of(case: Case) -> str:
    """yes, no or unknown: the judge's word on the observation."""
    sufficient = case.verdict.sufficient if case.verdict else None
    return {True: "yes", False: "no", None: "unknown"}[sufficient]


def outcome_of(case: Case) -> str:
    """right, wrong or unknown: the answer against the pipeline's threshold."""
    if case.accuracy is None or case.accuracy != case.accuracy:
        return "unknown"
    return "right" if case.accuracy >= RIGHT_ACCURACY else "wrong"


def chip(style: str, text: Any) -> Markup:
    """A small label; `style` is one of ours, `text` anybody's."""
    if not isinstance(text, Markup):
        text = shorten(visible(text), 80)
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


def shorten(text: Any, length: int) -> str:
    """One line of at most `length` characters."""
    text = visible(" ".join(str(text)[: 4 * length + 64].split()))
    return text if len(text) <= length else text[: length - 1] + "…"


def prose(text: str | None, absent: str, whole: str = "") -> Markup:
    """A text as it was written; a very long one is cut, with a link to the `whole`."""
    if text is None:
        return Markup('<p class="absent">{}</p>').format(absent)
    rest = len(text) - LONGEST_TEXT
    body = Markup('<p class="text" dir="auto">{}</p>').format(visible(text[:LONGEST_TEXT]))
    if rest <= 0:
        return body
    note = Markup(
        '<p class="note">{:,} more characters: <a href="{}" target="_blank">whole text</a></p>'
    ).format(rest, whole)
    return body + note if whole else body


def number(value: float | None, sign: str = "", digits: int = 2) -> str:
    """A number as tables show it; unknown is a dash, never a zero."""
    if value is None or value != value:
        return "–"
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def signed_style(value: float | None) -> str:
    """The style of an advantage: which way it pushes."""
    return "" if not value or value != value else "good" if value > 0 else "bad"


def options(choices: Iterable[tuple[str, str]], chosen: str) -> Markup:
    """The options of a select: (value, text)."""
    return join(
        Markup('<option value="{}"{}>{}</option>').format(
            value, Markup(" selected") if value == chosen else "", shorten(text, 60)
        )
        for value, text in choices
    )


def hidden(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Fields of a form that carry the rest of the state."""
    return join(
        Markup('<input type="hidden" name="{}" value="{}">').format(name, value)
        for name, value in pairs
    )


def render_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """A plain table: texts at the left, the rest as it comes."""
    body = join(
        Markup('<tr><th scope="row" dir="auto">{}</th>{}</tr>').format(
            shorten(row[0], 80),
            join(Markup("<td>{}</td>").format(shorten(cell, 80)) for cell in row[1:]),
        )
        for row in rows
    )
    names = join(Markup('<th scope="col">{}</th>').format(name) for name in head)
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table><thead><tr>{}</tr>'
        "</thead><tbody>{}</tbody></table></div>"
    ).format(", ".join(head), names, body)
