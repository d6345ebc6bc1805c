"""The Compare tab: two or three stages on the same questions, side by side."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from p2r.browser.address import MAX_SIDES, Side, View
from p2r.browser.find_view import render_active, render_pager
from p2r.browser.markup import (
    OUTCOME_WORDS,
    VERDICT_WORDS,
    CaseRow,
    chip,
    hidden,
    join,
    mark_chip,
    number,
    options,
    outcome_of,
    shorten,
    verdict_of,
    visible,
)
from p2r.browser.panels_view import (
    render_answer,
    render_observation,
    render_reasoning,
    render_response,
    render_verdict,
)
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
    kept = [
        (name, value) for name, value in view.pairs() if name not in ("side", "sheet", "result")
    ]
    choices = [
        (f"{row['run']}|{row['stage']}", f"{row['run']} · {row['stage']} ({row['n']:,})")
        for row in stages
    ]
    selects = join(
        Markup(
            '<label><b class="letter">{}</b><select name="side" id="side-{}" aria-label="{}">{}'
            "</select></label>"
        ).format(
            LETTERS[place],
            LETTERS[place],
            f"side {LETTERS[place]}",
            options(
                choices if place < 2 else [("", "– no third –"), *choices],
                "|".join(view.sides[place]) if place < len(view.sides) else "",
            ),
        )
        for place in range(MAX_SIDES)
    )
    total = rows[0]["total"] if rows else 0
    items = join(_render_item(view, row) for row in rows)
    listing = (
        Markup('{}<nav class="cases" aria-label="questions">{}</nav>').format(
            render_pager(view, len(rows), total), items
        )
        if rows
        else Markup('<p class="empty">No shared question has this pattern.</p>')
    )
    return Markup(
        '<div class="side-head"><h2>Same question, several models</h2>{}</div>'
        '<form id="sides" data-form class="sides">{}{}</form>{}<div id="list">{}</div>'
    ).format(
        render_active(view, filters), hidden(kept), selects, _render_patterns(view, counts), listing
    )


def _render_patterns(view: View, counts: Mapping[tuple[str, ...], int]) -> Markup:
    """Return each pattern of right and wrong answers with its count, and a link to all."""
    if not counts:
        return Markup("")
    patterns = [
        pattern
        for pattern in itertools.product(("right", "wrong"), repeat=len(view.sides))
        if counts.get(pattern)
    ]
    patterns += [pattern for pattern in counts if pattern not in patterns]

    def item(pattern: tuple[str, ...], content: Markup, count: int) -> Markup:
        return Markup('<a class="pattern" href="{}" data-go {}>{}<b>{:,}</b></a>').format(
            view.link(outcomes=pattern, page=0, question=""),
            Markup('aria-current="true"') if pattern == view.outcomes else "",
            content,
            count,
        )

    items = [item((), Markup("<span>all shared questions</span>"), sum(counts.values()))]
    for pattern in patterns:
        words = join(
            (
                Markup('<span class="chip {}">{} {} {}</span>').format(
                    OUTCOME_WORDS[outcome][0], LETTERS[place], OUTCOME_WORDS[outcome][1], outcome
                )
                for place, outcome in enumerate(pattern)
            ),
            " ",
        )
        items.append(item(pattern, words, counts[pattern]))
    return Markup('<section class="kinds patterns"><h2>Who was right</h2>{}</section>').format(
        join(items)
    )


def _render_item(view: View, row: CaseRow) -> Markup:
    marks = join(
        Markup('<span class="chip {}" title="{}: answer {}">{} {}</span>').format(
            OUTCOME_WORDS[outcome][0],
            LETTERS[place],
            OUTCOME_WORDS[outcome][2],
            LETTERS[place],
            OUTCOME_WORDS[outcome][1],
        )
        for place, outcome in enumerate(row["outcomes"])
    )
    return Markup(
        '<a class="item" href="{}" data-go {}><span class="q" dir="auto">{}</span>'
        '<span class="meta">{}<span class="where">{}</span></span></a>'
    ).format(
        view.link(question=row["question.id"]),
        Markup('aria-current="true"') if row["question.id"] == view.question else "",
        shorten(row["question.problem"], 140),
        marks,
        shorten(row["question.problem_type"], 40),
    )


def render_comparison(view: View, cases: Sequence[Case], media: Markup) -> Markup:
    """Return the question, and the responses in columns with different words marked."""
    if not cases:
        return Markup('<p class="empty">Choose two or three sides and a question on the left.</p>')
    question = cases[0].question
    first = cases[0]
    columns = []
    for place, case in enumerate(cases):
        bodies = {
            part: _marked(getattr(case.trace, part), _text_before(cases[:place], part))
            for part in ("observation", "think")
        }
        columns.append(
            [
                _render_head(view, case, LETTERS[place]),
                render_observation(case, bodies["observation"]),
                render_verdict(case, details=False),
                render_reasoning(case, bodies["think"]),
                render_answer(case),
            ]
        )
    if any(case.trace.problems for case in cases):
        for column, case in zip(columns, cases, strict=True):
            column.append(render_response(case))
    rows = join(part for row in zip(*columns, strict=True) for part in row)
    truth = visible(question.answer[:2000]) or "none"
    items = join(
        Markup('<li dir="auto">{}</li>').format(visible(o[:500])) for o in question.options
    )
    legend = Markup('<p class="note">Marked: words that are not in the column to the left.</p>')
    return Markup(
        '<article class="case compare" data-case="{}"><header><h2 dir="auto">{}</h2>'
        '<ul class="options">{}</ul><p class="truth">reference answer <b dir="auto">{}</b></p>'
        '</header><div class="compare-media">{}</div>{}<div class="grid" style="--sides:{}">{}'
        "</div></article>"
    ).format(
        first.id, visible(question.problem[:4000]), items, truth, media, legend, len(cases), rows
    )


def _render_head(view: View, case: Case, letter: str) -> Markup:
    t = case.trace
    return Markup(
        '<section class="side-title"><h3><b class="letter">{}</b> <span dir="auto">{}</span></h3>'
        '<p>{} {} {} <a href="{}" data-go>open the case</a></p></section>'
    ).format(
        letter,
        shorten(f"{t.run} · {t.stage}", 60),
        mark_chip(VERDICT_WORDS[verdict_of(case)], "observation"),
        mark_chip(OUTCOME_WORDS[outcome_of(case)], "answer"),
        chip("", f"{number(t.completion_tokens, digits=0)} tokens"),
        view.link(tab="cases", case=case.id, sides=view.sides),
    )


def _text_before(cases: Sequence[Case], part: str) -> str | None:
    """Return the text of the nearest column to the left that has one."""
    texts = [getattr(case.trace, part) for case in reversed(cases)]
    return next((text for text in texts if text), None)


def _marked(text: str | None, base: str | None) -> Markup | None:
    """Mark the words that are not in the base text. None: the text is shown without marks."""
    if text is None or base is None or max(len(text), len(base)) > _LONGEST:
        return None
    words, before = _split(text), _split(base)
    matcher = difflib.SequenceMatcher(a=before, b=words, autojunk=False)
    parts = []
    for kind, _, _, start, end in matcher.get_opcodes():
        piece = visible("".join(words[start:end]))
        if piece:
            form = Markup("{}") if kind == "equal" else Markup("<mark>{}</mark>")
            parts.append(form.format(piece))
    return Markup('<p class="text" dir="auto">{}</p>').format(join(parts))


def _split(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", text)
