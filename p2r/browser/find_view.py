"""The side of the Cases tab: search, filters, 2 x 2 table, failure kinds, list, saved views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from p2r.browser.address import BLIND_FIELDS, TELLING, View
from p2r.browser.markup import CaseRow, render
from p2r.browser.words import (
    CELL_STYLES,
    FAILURE_WORDS,
    OUTCOME_WORDS,
    TRUTH_WORDS,
    VERDICT_WORDS,
    stage_place,
    stage_words,
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


def render_find(store: CaseStore, view: View, rows: Sequence[CaseRow], total: int) -> Markup:
    """Return the side of the Cases tab. `rows`: a page of the list; `total`: its full length.

    Search, filters and order are one form. Each change opens a new address.
    """
    filters = view.filters
    facets = store.facets(filters)
    has_truths = not view.blind and not facets["truth"].keys() <= {"unknown"}
    other = ("verdict", "outcome", "failure", "question_id") + (() if has_truths else ("truth",))
    kept = Filters(**{name: getattr(filters, name) for name in other})
    cells = {} if view.blind else store.quadrants(filters)
    fields = BLIND_FIELDS if view.blind else FIELDS
    flags = {name: words for name, words in FLAGS.items() if not (view.blind and name in TELLING)}
    ranges = {
        name: (label, *map(limit_text, getattr(filters, name)))
        for name, label in RANGE_WORDS.items()
        if not (view.blind and name in TELLING)
    }

    def count(verdict: str | None, outcome: str | None) -> int:
        chosen = [(v, o) for v, o in cells if verdict in (None, v) and outcome in (None, o)]
        return sum(cells[cell] for cell in chosen)

    return render(
        "find.html",
        view=view,
        rows=rows,
        total=total,
        kept=replace(view, sort=None, descending=False, page=0, case="", filters=kept).pairs(),
        list_key=replace(view, case="").query(),
        stage_choices=_list_stages(store, view),
        scopes=[("", "all texts"), *((name, name) for name in fields)],
        scope=filters.text_in[0] if len(filters.text_in) == 1 else "",
        choices=CHOICES,
        has_truths=has_truths,
        truths=_list_truths(store, view) if has_truths else [],
        facets=facets,
        flags=flags,
        ranges=ranges,
        sorts={
            name: words for name, words in SORTS.items() if not (view.blind and name in TELLING)
        },
        kinds=(*KINDS, "fiftyone"),
        active_filters=list_active(view),
        clear=clear_link(view),
        cells=cells,
        sum=count,
        cell_style=lambda *cell: CELL_STYLES.get(cell, ("unknown",))[0],
        verdicts=[v for v in VERDICT_WORDS if v != "unknown" or count(v, None)],
        outcomes=[o for o in OUTCOME_WORDS if o != "unknown" or count(None, o)],
        failures=[] if view.blind else _list_failures(store, view),
    )


def list_active(view: View, working: Filters | None = None) -> list[tuple[str, str]]:
    """Return the active filters: (words, address without the filter).

    `working`: the filters that the page applies, if it does not apply all.
    """
    filters = view.filters if working is None else working
    set_: list[tuple[str, str]] = []
    if filters.text:
        is_narrow = filters.text_in not in ((), BLIND_FIELDS)
        where = f" in {', '.join(filters.text_in)}" if is_narrow else ""
        set_.append((f"text{where}: {filters.text}", view.narrowed(text="", text_in=())))
    for name in (*CHOICES, "question_id", "failure"):
        for value in getattr(filters, name):
            rest = tuple(other for other in getattr(filters, name) if other != value)
            said = {"failure": FAILURE_WORDS.get(value, value), "stage": stage_words(value)}.get(
                name, value
            )
            words = f"{CHOICES.get(name, name.replace('_id', ''))}: {said}"
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
    for name, subject, table in (
        ("verdict", "observation", VERDICT_WORDS),
        ("outcome", "answer", OUTCOME_WORDS),
        ("truth", "observation", TRUTH_WORDS),
    ):
        if value := getattr(filters, name):
            set_.append((f"{subject}: {table[value][2]}", view.narrowed(**{name: None})))
    return set_


def clear_link(view: View) -> str:
    """Return the address without any filter."""
    return view.link(filters=Filters(), page=0)


def _span(low: float | None, high: float | None) -> str:
    if low is None:
        return f"≤ {limit_text(high)}"
    return f"≥ {limit_text(low)}" if high is None else f"{limit_text(low)} to {limit_text(high)}"


def _list_truths(store: CaseStore, view: View) -> list[tuple[str, int, str]]:
    """Return (truth, count, address that sets or removes it) of the sufficient observations."""
    filters = view.filters
    counts = store.values("truth", replace(filters, verdict="yes", truth=None))
    return [
        (truth, counts[truth], view.narrowed(verdict="yes", truth=truth))
        if (filters.verdict, filters.truth) != ("yes", truth)
        else (truth, counts[truth], view.narrowed(truth=None))
        for truth in ("true", "false")
        if truth in counts
    ]


def _list_failures(store: CaseStore, view: View) -> list[tuple[str, int, str]]:
    """Return (failure kind, count, address that adds or removes it). A case may match any kind."""
    chosen = view.filters.failure
    found = []
    for kind, count in store.failures(view.filters).items():
        rest = tuple(other for other in chosen if other != kind)
        if count or kind in chosen:
            kinds = rest if kind in chosen else (*chosen, kind)
            found.append((kind, count, view.narrowed(failure=kinds)))
    return found


def render_nav(view: View, place: Neighbours) -> Markup:
    """Return the position of the open case in the list, with links to its neighbours."""
    unknown = place.position is None
    return render(
        "nav.html",
        view=view,
        filters=len(list_active(view)),
        position=place.position,
        total=place.total,
        previous=_step(view, None if unknown else place.previous),
        following=_step(view, None if unknown else place.following),
    )


def _step(view: View, case: str | None) -> str | None:
    return None if case is None else view.link(case=case, page=None)


def _list_stages(store: CaseStore, view: View) -> list[tuple[str, str, bool]]:
    """Return (words, address, whether chosen) for a quick choice of one stage."""
    counts = store.facets(replace(view.filters, stage=()))["stage"]
    if len(counts) < 2:
        return []
    chosen = view.filters.stage
    choices = [("all stages", view.narrowed(stage=()), not chosen)]
    return choices + [
        (f"{stage_words(stage)} ({n:,})", view.narrowed(stage=(stage,)), chosen == (stage,))
        for stage, n in sorted(counts.items(), key=lambda counted: stage_place(counted[0]))
    ]
