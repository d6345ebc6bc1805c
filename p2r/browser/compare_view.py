"""The Compare tab: two or three stages on the same questions, side by side."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from p2r.browser.address import MAX_SIDES, Side, View
from p2r.browser.evidence import Sentence, read_observation
from p2r.browser.find_view import clear_link, list_active
from p2r.browser.markup import CaseRow, render
from p2r.browser.words import stage_words
from p2r.cases.selection import Filters
from p2r.records import Case

LETTERS = "ABC"
# A longer text is not compared word by word.
_LONGEST = 8000


def propose_sides(stages: Sequence[Mapping[str, Any]]) -> tuple[Side, ...]:
    """Return the stages base, SFT and PA-GRPO if they exist, else the first two or three."""
    sides = [(row["run"], row["stage"]) for row in stages]
    evaluated = [side for side in sides if side[1].startswith("eval")] or sides

    def find(*names: str) -> Side | None:
        for name in names:
            for side in evaluated:
                if side[1].removeprefix("eval-") == name:
                    return side
        return None

    found = [find("base"), find("sft"), find("pa_grpo", "pa-grpo", "grpo")]
    named = [side for side in found if side is not None]
    return tuple(named) if len(named) >= 2 else tuple(evaluated[:MAX_SIDES])


def render_sides(
    view: View,
    filters: Filters,
    stages: Sequence[Mapping[str, Any]],
    counts: Mapping[tuple[str, ...], int],
    rows: Sequence[CaseRow],
) -> Markup:
    """Return the side of the Compare tab: sides, patterns of outcomes, questions.

    `filters`: the filters of the view that are applied here.
    """
    patterns = itertools.product(("right", "wrong"), repeat=len(view.sides))
    first = [pattern for pattern in patterns if counts.get(pattern)]
    named = "{} · " if len({row["run"] for row in stages}) > 1 else ""
    return render(
        "sides.html",
        view=view,
        letters=LETTERS,
        active_filters=list_active(view, filters),
        clear=clear_link(view),
        kept=[pair for pair in view.pairs() if pair[0] not in ("side", "sheet", "result")],
        choices=[
            (
                f"{row['run']}|{row['stage']}",
                f"{named.format(row['run'])}{stage_words(row['stage'])} ({row['n']:,})",
            )
            for row in stages
        ],
        counts=counts,
        patterns=[*first, *(pattern for pattern in counts if pattern not in first)],
        rows=rows,
    )


def render_comparison(view: View, cases: Sequence[Case], media: Markup) -> Markup:
    """Return the question, and the responses in columns with different words marked."""
    columns = [
        _describe_column(LETTERS[place], case, cases[:place]) for place, case in enumerate(cases)
    ]
    has_faults = any(case.trace.problems for case in cases)
    return render("comparison.html", view=view, columns=columns, media=media, has_faults=has_faults)


def _describe_column(letter: str, case: Case, before: Sequence[Case]) -> dict[str, Any]:
    """Return what a column shows.

    `sentences`: (sentence, its pieces) of the observation, if the truth of one is known.
    `checked`, `true`: how many sentences can be checked, and how many of those are true.
    """
    marked = {
        part: _mark(getattr(case.trace, part), _text_before(before, part))
        for part in ("observation", "think")
    }
    found = read_observation(case.question, case.trace.observation)
    checked = [sentence.truth for sentence in found if sentence.truth != "unknown"]
    pieces = marked["observation"] or [(False, case.trace.observation or "")]
    return {
        "letter": letter,
        "case": case,
        **marked,
        "sentences": _cut(pieces, found) if checked else [],
        "checked": len(checked),
        "true": checked.count("true"),
    }


def _cut(
    pieces: Sequence[tuple[bool, str]], sentences: Sequence[Sentence]
) -> list[tuple[Sentence, list[tuple[bool, str]]]]:
    """Return each sentence with its part of the pieces of the text."""
    letters = [(is_new, letter) for is_new, text in pieces for letter in text]
    text, at, cut = "".join(letter for _, letter in letters), 0, []
    for sentence in sentences:
        start = text.index(sentence.text, at)
        at = start + len(sentence.text)
        groups = itertools.groupby(letters[start:at], key=lambda letter: letter[0])
        cut.append((sentence, [(new, "".join(c for _, c in group)) for new, group in groups]))
    return cut


def _text_before(cases: Sequence[Case], part: str) -> str | None:
    """Return the text of the nearest column to the left that has one."""
    texts = [getattr(case.trace, part) for case in reversed(cases)]
    return next((text for text in texts if text), None)


def _mark(text: str | None, base: str | None) -> list[tuple[bool, str]] | None:
    """Return pieces of a text: (whether the base text lacks it, piece). None: do not compare."""
    if text is None or base is None or max(len(text), len(base)) > _LONGEST:
        return None
    words, before = (re.findall(r"\w+|\s+|[^\w\s]", part) for part in (text, base))
    matcher = difflib.SequenceMatcher(a=before, b=words, autojunk=False)
    return [
        (kind != "equal", "".join(words[start:end]))
        for kind, _, _, start, end in matcher.get_opcodes()
        if start < end
    ]
