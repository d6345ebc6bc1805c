"""Small pieces of HTML, and the words for verdicts and outcomes that all views share.

Texts of traces, questions, judges and file names are untrusted. They enter a page only through
`Markup(...).format(...)`, which escapes every argument that is not markup itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from p2r.cases.selection import RIGHT_ACCURACY
from p2r.files.safe_text import show_unseen
from p2r.records import Case, ProcessReward

CaseRow = Mapping[str, Any]
# Verdict of the judge, or outcome of the answer -> (style, mark, word).
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
# The meaning of each (verdict, outcome). An outcome reward cannot see the two mixed cases.
MEANINGS = {
    ("yes", "right"): "seen and solved",
    ("yes", "wrong"): "reasoning failed",
    ("no", "right"): "right by luck",
    ("no", "wrong"): "perception failed",
}
# A longer text is cut on the page and gets a link to the full text.
LONGEST_TEXT = 20_000


def visible(text: Any) -> str:
    """Return an untrusted text with its invisible characters written out."""
    return show_unseen(str(text))


def verdict_of(case: Case) -> str:
    """Return the judge's verdict on the observation: yes, no or unknown."""
    sufficient = case.verdict.sufficient if case.verdict else None
    return {True: "yes", False: "no", None: "unknown"}[sufficient]


def outcome_of(case: Case) -> str:
    """Return the outcome of the answer, by the pipeline's threshold: right, wrong or unknown."""
    if case.accuracy is None or case.accuracy != case.accuracy:
        return "unknown"
    return "right" if case.accuracy >= RIGHT_ACCURACY else "wrong"


def describe_case(case: Case) -> list[str]:
    """Return the words under which a case is known: problem type, source, run, stage, step …"""
    q, t = case.question, case.trace
    words = [q.problem_type, q.data_type, q.source, t.run, t.stage]
    words += [] if t.step is None else [f"step {t.step}"]
    words += [f"rollout {t.rollout}"] if t.rollout else []
    return [word for word in words if word]


def describe_making(case: Case) -> dict[str, Any]:
    """Return the facts about how a case was made, by name; unknown ones are None or empty."""
    q, t = case.question, case.trace
    return {
        "model": t.model,
        "run": t.run,
        "stage": t.stage,
        "step": t.step,
        "rollout": t.rollout,
        "case": case.id,
        "question": q.id,
        "media file": q.path,
        "sampling": t.sampling,
        "media": {name: value for name, value in t.media.items() if name != "path"},
        "prompt tokens": t.prompt_tokens,
        "completion tokens": t.completion_tokens,
        "perception tokens": t.perception_tokens,
    }


def reward_sum(process: str, reward: ProcessReward | None) -> Markup:
    """Return the reward of a process ("P" or "R") as the sum of its parts."""
    if reward is None:
        return Markup("")
    total, accuracy = (
        "unknown" if part is None else number(part) for part in (reward.total, reward.accuracy)
    )
    return Markup("<b>R<sub>{}</sub> {}</b> = accuracy {} + format {} + length {}").format(
        process, total, accuracy, number(reward.format), number(reward.length)
    )


def chip(style: str, text: Any) -> Markup:
    """Return a small label. `style` is a class of the style sheet, `text` may be untrusted."""
    if not isinstance(text, Markup):
        text = shorten(visible(text), 80)
    return Markup('<span class="chip {}">{}</span>').format(style, text)


def join(parts: Iterable[Markup], between: str = "") -> Markup:
    """Join parts of a page."""
    return Markup(between).join(parts)


def mark_chip(words: tuple[str, str, str], subject: str) -> Markup:
    """Return the chip of a verdict (`subject` observation) or an outcome (`subject` answer)."""
    style, mark, word = words
    short = {"observation": "obs", "answer": "ans"}[subject]
    return Markup('<span class="chip {}" title="{}: {}">{} {}</span>').format(
        style, subject, word, mark, short
    )


def shorten(text: Any, length: int) -> str:
    """Return a text as one line of at most `length` characters."""
    text = visible(" ".join(str(text)[: 4 * length + 64].split()))
    return text if len(text) <= length else text[: length - 1] + "…"


def prose(text: str | None, absent: str, whole: str = "") -> Markup:
    """Return a text as a paragraph. A very long one is cut; `whole` links to the full text."""
    if text is None:
        return Markup('<p class="absent">{}</p>').format(absent)
    rest = len(text) - LONGEST_TEXT
    body = Markup('<p class="text" dir="auto">{}</p>').format(visible(text[:LONGEST_TEXT]))
    if rest <= 0:
        return body
    note = Markup(
        '<p class="note">{:,} more characters: <a href="{}" target="_blank">full text</a></p>'
    ).format(rest, whole)
    return body + note if whole else body


def number(value: float | None, sign: str = "", digits: int = 2) -> str:
    """Return a number as tables show it. Unknown is a dash, never a zero."""
    if value is None or value != value:
        return "–"
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def signed_style(value: float | None) -> str:
    """Return the style of an advantage by its sign."""
    return "" if not value or value != value else "good" if value > 0 else "bad"


def options(choices: Iterable[tuple[str, str]], chosen: str) -> Markup:
    """Return the options of a select; `choices` are (value, text)."""
    return join(
        Markup('<option value="{}"{}>{}</option>').format(
            value, Markup(" selected") if value == chosen else "", shorten(text, 60)
        )
        for value, text in choices
    )


def hidden(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return hidden form fields, which keep the rest of the address."""
    return join(
        Markup('<input type="hidden" name="{}" value="{}">').format(name, value)
        for name, value in pairs
    )


def render_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Return a table; the first cell of each row is its heading."""
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
