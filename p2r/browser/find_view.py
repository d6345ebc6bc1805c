"""The side of the Cases tab: search, filters, 2 x 2 table, failure kinds, list, saved views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from p2r.browser.address import PAGE, View
from p2r.browser.markup import (
    MEANINGS,
    OUTCOME_WORDS,
    VERDICT_WORDS,
    CaseRow,
    chip,
    hidden,
    join,
    mark_chip,
    options,
    shorten,
)
from p2r.cases.export import KINDS
from p2r.cases.selection import FIELDS, RANGES, Filters, limit_text
from p2r.cases.store import CaseStore, Neighbours

# Filter -> its label.
CHOICES = {
    "run": "run",
    "stage": "stage",
    "model": "model",
    "problem_type": "problem type",
    "data_type": "data type",
    "source": "source",
}
FLAGS = {"fault": "format faults", "mismatch": "think–answer mismatch", "truncated": "truncated"}
RANGE_WORDS = {
    "step": "training step",
    "accuracy": "answer accuracy",
    "perception_reward": "perception reward",
    "reasoning_reward": "reasoning reward",
    "length": "length in tokens",
}
SORTS = {
    "": "as written",
    "trace.step": "training step",
    "accuracy": "answer accuracy",
    "perception_reward": "perception reward",
    "reasoning_reward": "reasoning reward",
    "perception_advantage": "perception advantage",
    "reasoning_advantage": "reasoning advantage",
    "trace.completion_tokens": "length in tokens",
    "question.problem": "question",
}
_LISTED_VALUES = 60


def render_find(store: CaseStore, view: View, rows: Sequence[CaseRow], total: int) -> Markup:
    """Return the side of the Cases tab. `rows`: a page of the list; `total`: its full length."""
    parts = [_render_form(store, view), render_active(view)]
    if not view.blind:
        parts += [render_quadrants(store, view), render_kinds(store, view)]
    parts += [_render_tools(view, total), _render_list(view, rows, total)]
    return join(parts)


def _render_form(store: CaseStore, view: View) -> Markup:
    """Return search, filters and order as one form. Each change opens a new address."""
    filters = view.filters
    kept = replace(
        view,
        sort=None,
        descending=False,
        page=0,
        filters=Filters(
            verdict=filters.verdict,
            outcome=filters.outcome,
            failure=filters.failure,
            question_id=filters.question_id,
        ),
    )
    facets = store.facets(filters)
    choices = join(
        _render_choice(name, label, facets[name], getattr(filters, name))
        for name, label in CHOICES.items()
    )
    flags = join(_render_flag(name, label, getattr(filters, name)) for name, label in FLAGS.items())
    ranges = join(
        _render_range(name, label, getattr(filters, name)) for name, label in RANGE_WORDS.items()
    )
    scopes = [("", "all texts"), *((field, field) for field in FIELDS)]
    return Markup(
        '<form id="find" data-form>{}<div class="searchbox"><input id="search" name="text" '
        'type="search" value="{}" placeholder="Search all texts" aria-label="search text" '
        'autocomplete="off" spellcheck="false"><select name="text_in" id="text-in" '
        'aria-label="search in">{}</select></div><details id="filters"><summary>Filters and order'
        '</summary><div class="fields">{}{}{}'
        '<label>order by<select name="sort" id="sort">{}</select></label>'
        '<label>direction<select name="order" id="order">{}</select></label></div></details></form>'
    ).format(
        hidden(kept.pairs()),
        filters.text,
        options(scopes, filters.text_in[0] if filters.text_in else ""),
        choices,
        flags,
        ranges,
        options(SORTS.items(), view.sort or ""),
        options(
            [("", "smallest first"), ("descending", "largest first")],
            "descending" if view.descending else "",
        ),
    )


def _render_choice(
    name: str, label: str, counts: Mapping[Any, int], chosen: Sequence[str]
) -> Markup:
    """Return a fold of check boxes for the most frequent values."""
    values = list(dict.fromkeys([*chosen, *counts]))
    if len(values) < 2 and not chosen:
        return Markup("")
    boxes = join(
        Markup(
            '<label class="box"><input type="checkbox" name="{}" value="{}" id="{}-{}"{}>'
            "<span>{}</span><small>{:,}</small></label>"
        ).format(
            name,
            value,
            name,
            place,
            Markup(" checked") if value in chosen else "",
            shorten(value, 60) or "none",
            counts.get(value, 0),
        )
        for place, value in enumerate(values[:_LISTED_VALUES])
    )
    more = len(values) - _LISTED_VALUES
    note = Markup("<small>and {:,} more</small>").format(more) if more > 0 else ""
    said = ", ".join(shorten(value, 20) for value in chosen) or "any"
    return Markup(
        '<details class="choice" id="choice-{}"><summary>{} <small>{}</small></summary>'
        '<div class="boxes">{}{}</div></details>'
    ).format(name, label, shorten(said, 40), boxes, note)


def _render_flag(name: str, label: str, value: bool | None) -> Markup:
    chosen = "" if value is None else str(value)
    return Markup('<label>{}<select name="{}" id="flag-{}">{}</select></label>').format(
        label, name, name, options([("", "any"), ("True", "yes"), ("False", "no")], chosen)
    )


def _render_range(name: str, label: str, limits: tuple[float | None, float | None]) -> Markup:
    low, high = map(limit_text, limits)
    return Markup(
        '<fieldset class="range" data-range="{}"><legend>{}</legend>'
        '<input inputmode="decimal" id="{}-from" value="{}" placeholder="from" '
        'aria-label="{} from" autocomplete="off">'
        '<input inputmode="decimal" id="{}-to" value="{}" placeholder="to" aria-label="{} to" '
        'autocomplete="off"></fieldset>'
    ).format(name, label, name, low, label, name, high, label)


def render_active(view: View, working: Filters | None = None) -> Markup:
    """Return the active filters, each as a link that removes it.

    `working`: the filters that the page applies, if it does not apply all.
    """
    filters = view.filters if working is None else working
    set_: list[tuple[str, str]] = []
    if filters.text:
        where = f" in {filters.text_in[0]}" if filters.text_in else ""
        set_.append((f"text{where}: {filters.text}", view.narrowed(text="", text_in=())))
    for name in (*CHOICES, "question_id", "failure"):
        for value in getattr(filters, name):
            rest = tuple(other for other in getattr(filters, name) if other != value)
            words = f"{CHOICES.get(name, name.replace('_id', ''))}: {value}"
            set_.append((words, view.narrowed(**{name: rest})))
    for name, label in FLAGS.items():
        if (value := getattr(filters, name)) is not None:
            words = label if value else f"no {label}"
            set_.append((words, view.narrowed(**{name: None})))
    for name in RANGES:
        low, high = getattr(filters, name)
        if low is not None or high is not None:
            words = f"{RANGE_WORDS[name]} {_span(low, high)}"
            set_.append((words, view.narrowed(**{name: (None, None)})))
    for name, table in (("verdict", VERDICT_WORDS), ("outcome", OUTCOME_WORDS)):
        if value := getattr(filters, name):
            subject = "observation" if name == "verdict" else "answer"
            set_.append((f"{subject}: {table[value][2]}", view.narrowed(**{name: None})))
    if not set_:
        return Markup("")
    chips = join(
        Markup(
            '<a class="chip removable" href="{}" data-go title="remove this filter">{}'
            '<span aria-hidden="true">×</span></a>'
        ).format(link, shorten(words, 44))
        for words, link in set_
    )
    clear = Markup('<a class="clear" href="{}" data-go>clear all</a>').format(
        view.link(filters=Filters(), page=0)
    )
    return Markup('<p class="active" aria-label="active filters">{}{}</p>').format(chips, clear)


def _span(low: float | None, high: float | None) -> str:
    if low is None:
        return f"≤ {limit_text(high)}"
    return f"≥ {limit_text(low)}" if high is None else f"{limit_text(low)} to {limit_text(high)}"


def render_quadrants(store: CaseStore, view: View) -> Markup:
    """Return perception x answer as a table of links, with unknowns only if there are any."""
    cells = store.quadrants(view.filters)
    total = sum(cells.values())
    verdicts = [v for v in VERDICT_WORDS if v != "unknown" or _sum(cells, v, None)]
    outcomes = [o for o in OUTCOME_WORDS if o != "unknown" or _sum(cells, None, o)]
    chosen = (view.filters.verdict, view.filters.outcome)

    def button(verdict: str | None, outcome: str | None, content: Markup, style: str) -> Markup:
        """Return a link that chooses a cell, or removes the choice if it is chosen already."""
        at = (verdict, outcome) == chosen
        target = (None, None) if at else (verdict, outcome)
        return Markup(
            '<a class="{}" href="{}" data-go {} data-verdict="{}" data-outcome="{}">{}</a>'
        ).format(
            style,
            view.narrowed(verdict=target[0], outcome=target[1]),
            Markup('aria-current="true"') if at else "",
            verdict or "",
            outcome or "",
            content,
        )

    def heading(verdict: str | None, outcome: str | None, word: str) -> Markup:
        content = Markup("{} <small>{:,}</small>").format(word, _sum(cells, verdict, outcome))
        return button(verdict, outcome, content, "heading")

    def cell(verdict: str, outcome: str) -> Markup:
        count = cells[verdict, outcome]
        share = f"{count / total:.0%}" if total else ""
        content = Markup("<b>{:,}</b> <small>{}</small><span>{}</span>").format(
            count, share, MEANINGS.get((verdict, outcome), "")
        )
        return button(verdict, outcome, content, f"cell {_cell_style(verdict, outcome)}")

    head = join(
        Markup('<th scope="col">{}</th>').format(heading(None, o, f"answer {OUTCOME_WORDS[o][2]}"))
        for o in outcomes
    )
    body = join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            heading(v, None, VERDICT_WORDS[v][2]),
            join(Markup("<td>{}</td>").format(cell(v, o)) for o in outcomes),
        )
        for v in verdicts
    )
    corner = button(None, None, Markup("all <small>{:,}</small>").format(total), "heading")
    return Markup(
        '<table class="quadrants"><caption>Observation × answer</caption>'
        '<thead><tr><td class="corner">{}</td>{}</tr></thead><tbody>{}</tbody></table>'
    ).format(corner, head, body)


def _cell_style(verdict: str, outcome: str) -> str:
    if "unknown" in (verdict, outcome):
        return "unknown"
    if (verdict, outcome) == ("no", "wrong"):
        return "both-bad"
    return "match" if (verdict, outcome) == ("yes", "right") else "mismatch"


def _sum(cells: Mapping[tuple[str, str], int], verdict: str | None, outcome: str | None) -> int:
    return sum(
        n for cell, n in cells.items() if verdict in (None, cell[0]) and outcome in (None, cell[1])
    )


def render_kinds(store: CaseStore, view: View) -> Markup:
    """Return the failure kinds with their counts. With several, a case may be of any of them."""
    chosen = view.filters.failure

    def link(kind: str) -> str:
        rest = tuple(other for other in chosen if other != kind)
        return view.narrowed(failure=rest if kind in chosen else (*chosen, kind))

    items = join(
        Markup('<a class="kind" data-key="kind {}" href="{}" data-go {}>{} <b>{:,}</b></a>').format(
            kind, link(kind), Markup('aria-current="true"') if kind in chosen else "", kind, count
        )
        for kind, count in store.failures(view.filters).items()
        if count or kind in chosen
    )
    if not items:
        return Markup("")
    return Markup('<section class="kinds"><h2>What went wrong</h2><p>{}</p></section>').format(
        items
    )


def _render_tools(view: View, total: int) -> Markup:
    query = urlencode(view.pairs())
    links = join(
        Markup('<a class="button" href="p2r/export?kind={}&amp;{}" download>{}</a>').format(
            kind, query, kind.upper() if kind != "parquet" else "Parquet"
        )
        for kind in KINDS
    )
    return Markup(
        '<div class="tools"><details id="views"><summary>Saved views</summary>'
        '<div class="fold" data-views></div></details>'
        '<details id="export"><summary>Export</summary><div class="fold"><p>{:,} cases in this '
        'selection</p><p class="row">{}</p></div></details></div>'
    ).format(total, links)


def _render_list(view: View, rows: Sequence[CaseRow], total: int) -> Markup:
    if not rows:
        return Markup('<div id="list"><p class="empty">No case matches these filters.</p></div>')
    return Markup('<div id="list">{}<nav class="cases" aria-label="cases">{}</nav></div>').format(
        render_pager(view, len(rows), total),
        join(_render_row(view, row) for row in rows),
    )


def render_pager(view: View, count: int, total: int) -> Markup:
    """Which part of a list is shown, and the way to its neighbours."""
    page = view.page or 0
    first = page * PAGE + 1
    pages = -(-total // PAGE)

    def turn(target: int, label: str, mark: str) -> Markup:
        if not 0 <= target < pages:
            return Markup('<span class="button off" aria-hidden="true">{}</span>').format(mark)
        return Markup('<a class="button" href="{}" data-go aria-label="{}">{}</a>').format(
            view.link(page=target), label, mark
        )

    return Markup('<div class="pager"><span>{:,}–{:,} of {:,}</span>{}{}</div>').format(
        first,
        first + count - 1,
        total,
        turn(page - 1, "previous page", "‹"),
        turn(page + 1, "next page", "›"),
    )


def _render_row(view: View, row: CaseRow) -> Markup:
    where = [row["question.problem_type"], row["trace.stage"] or row["trace.run"]]
    if row["trace.step"] is not None:
        where.append(f"step {row['trace.step']}")
    if row["trace.rollout"]:
        where.append(f"#{row['trace.rollout']}")
    marks = []
    if not view.blind:
        marks = [
            mark_chip(VERDICT_WORDS[row["verdict"]], "observation"),
            mark_chip(OUTCOME_WORDS[row["outcome"]], "answer"),
        ]
        marks += [chip("bad", "format")] if row["fault"] else []
    return Markup(
        '<a class="item" href="{}" data-go data-case="{}" {}>'
        '<span class="q" dir="auto">{}</span><span class="meta">{}<span class="where">{}</span>'
        "</span></a>"
    ).format(
        view.link(case=row["id"], page=None),
        row["id"],
        Markup('aria-current="true"') if row["id"] == view.case else "",
        shorten(row["question.problem"], 160),
        join(marks),
        shorten(" · ".join(where), 90),
    )


def render_nav(view: View, place: Neighbours) -> Markup:
    """Return the position of the open case in the list, with links to its neighbours."""
    if place.position is not None:
        said = f"{place.position + 1:,} of {place.total:,}"
    else:
        said = "not in this list" if view.case else "no case"

    def step(name: str, case: str | None, content: Markup) -> Markup:
        if case is None or place.position is None:
            return Markup('<span class="button off" id="{}" aria-disabled="true">{}</span>').format(
                name, content
            )
        return Markup('<a class="button" id="{}" href="{}" data-go="step">{}</a>').format(
            name, view.link(case=case, page=None), content
        )

    return Markup('<div class="nav">{}<span class="place" role="status">{}</span>{}</div>').format(
        step("previous-case", place.previous, Markup("‹ previous <kbd>k</kbd>")),
        said,
        step("next-case", place.following, Markup("next <kbd>j</kbd> ›")),
    )
