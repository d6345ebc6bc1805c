"""The Failures tab: instructive cases of every failure kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlencode

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.find_view import render_active
from p2r.browser.markup import OUTCOME_WORDS, VERDICT_WORDS, CaseRow, chip, join, mark_chip, shorten
from p2r.cases.store import CaseStore

# Failure kind -> its description, and the column (and direction) that sorts its cases.
KINDS = {
    "right by luck": (
        "The answer is right, but the observation does not support it. An outcome reward rewards "
        "such cases; process rewards do not.",
        ("reasoning_reward", True),
    ),
    "perception miss": (
        "The observation misses or distorts what the question needs, so reasoning had no chance.",
        ("perception_reward", False),
    ),
    "reasoning slip": (
        "The observation holds everything that is needed, but the conclusion is wrong.",
        ("perception_reward", True),
    ),
    "mismatch": (
        "The answer differs from the conclusion of the reasoning.",
        ("trace.completion_tokens", True),
    ),
    "format": (
        "The response breaks the template, so a process cannot be read or rewarded.",
        ("trace.completion_tokens", False),
    ),
    "truncated": (
        "The response was cut at the token limit.",
        ("trace.completion_tokens", True),
    ),
    "judge unknown": (
        "The judge gave no verdict. These cases are left out of every rate.",
        (None, False),
    ),
}
SHOWN = 6
_CANDIDATES = 120


def render_gallery(store: CaseStore, view: View) -> Markup:
    """Return a section per failure kind, with its count and cases of different questions."""
    counts = store.failures(view.filters)
    order = [*(k for k in KINDS if k in counts), *(k for k in counts if k not in KINDS)]
    sections = join(_render_kind(store, view, kind, counts[kind]) for kind in order if counts[kind])
    filters = replace(view.filters, failure=())
    total, active = store.count(filters), render_active(view, filters)
    if not sections:
        sections = Markup('<p class="empty">No case failed under these filters.</p>')
    return Markup(
        '<div class="page wide"><header class="page-head"><h2>Why answers fail</h2><p>{:,} of {:,} '
        "cases failed. Each is counted once, under the first kind that applies.</p>"
        "{}{}</header>{}</div>"
    ).format(sum(counts.values()), total, active, _render_chart(counts, total, view), sections)


def _render_chart(counts: Mapping[str, int], total: int, view: View) -> Markup:
    largest = max(counts.values(), default=0) or 1
    rows = join(
        Markup(
            '<tr><th scope="row"><a href="#kind-{}">{}</a></th><td class="num">{:,}</td>'
            '<td class="num">{:.1%}</td><td class="barcell">'
            '<span style="width:{:.1f}%"></span></td></tr>'
        ).format(place, kind, counts[kind], counts[kind] / total, 100 * counts[kind] / largest)
        for place, kind in enumerate(KINDS)
        if counts.get(kind)
    )
    return Markup('<table class="ranked"><tbody>{}</tbody></table>').format(rows) if rows else rows


def _render_kind(store: CaseStore, view: View, kind: str, count: int) -> Markup:
    words, (sort, descending) = KINDS.get(kind, ("", (None, False)))
    filters = replace(view.filters, failure=(kind,))
    rows = store.page(filters, sort, descending, limit=_CANDIDATES)
    place = list(KINDS).index(kind) if kind in KINDS else len(KINDS)
    return Markup(
        '<section class="gallery" id="kind-{}"><header><h3>{} <small>{:,}</small></h3><p>{}</p>'
        '<a class="button" href="{}" data-go>show all</a></header><div class="cards">{}</div>'
        "</section>"
    ).format(
        place,
        kind,
        count,
        words,
        view.link(tab="cases", filters=filters, page=0, case=""),
        join(_render_card(view, filters, row) for row in choose_various(rows)),
    )


def choose_various(rows: Sequence[CaseRow], count: int = SHOWN) -> list[CaseRow]:
    """Choose rows of different questions, taking problem types in turn."""
    by_type: dict[str, dict[str, CaseRow]] = {}
    for row in rows:
        by_type.setdefault(row["question.problem_type"], {}).setdefault(
            row["question.problem"], row
        )
    queues = [list(found.values()) for found in by_type.values()]
    chosen: list[CaseRow] = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return chosen


def _render_card(view: View, filters: object, row: CaseRow) -> Markup:
    return Markup(
        '<a class="gcard" href="{}" data-go><span class="thumb" data-thumb="p2r/thumb?{}">'
        '</span><span class="q" dir="auto">{}</span><span class="gave" dir="auto">answered '
        '<b>{}</b></span><span class="meta">{}{}{}</span></a>'
    ).format(
        view.link(tab="cases", filters=filters, page=0, case=row["id"]),
        urlencode({"case": row["id"]}),
        shorten(row["question.problem"], 110),
        shorten(row["trace.answer"] or "nothing", 50),
        mark_chip(VERDICT_WORDS[row["verdict"]], "observation"),
        mark_chip(OUTCOME_WORDS[row["outcome"]], "answer"),
        chip("", row["question.problem_type"]),
    )
