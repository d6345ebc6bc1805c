"""The Failures tab: instructive cases of every failure kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.find_view import clear_link, list_active
from p2r.browser.markup import CaseRow, render
from p2r.browser.stage_view import count_stages
from p2r.cases.store import CaseStore

# Failure kind -> the column (and direction) that sorts its cases. The template has the words.
KINDS = {
    "right by luck": ("reasoning_reward", True),
    "perception miss": ("perception_reward", False),
    "reasoning slip": ("perception_reward", True),
    "mismatch": ("trace.completion_tokens", True),
    "format": ("trace.completion_tokens", False),
    "truncated": ("trace.completion_tokens", True),
    "judge unknown": (None, False),
}
SHOWN = 6
_CANDIDATES = 120


def render_gallery(store: CaseStore, view: View) -> Markup:
    """Return a section per failure kind, with its count and cases of different questions."""
    counts = store.failures(view.filters)
    order = [*(k for k in KINDS if k in counts), *(k for k in counts if k not in KINDS)]
    filters = replace(view.filters, failure=())
    stages = count_stages(store.tally(filters))
    return render(
        "gallery.html",
        view=view,
        cases=replace(view, tab="cases", filters=filters),
        stages=stages,
        with_run=len({stage.run for stage in stages}) > 1,
        kinds=[kind for kind in order if counts[kind]],
        failed=sum(counts.values()),
        total=store.count(filters),
        largest=max(counts.values(), default=0),
        active_filters=list_active(view, filters),
        clear=clear_link(view),
        sections=[_read_kind(store, view, kind, counts[kind]) for kind in order if counts[kind]],
    )


def _read_kind(store: CaseStore, view: View, kind: str, count: int) -> dict[str, Any]:
    sort, descending = KINDS.get(kind, (None, False))
    filters = replace(view.filters, failure=(kind,))
    return {
        "kind": kind,
        "known": kind in KINDS,
        "place": list(KINDS).index(kind) if kind in KINDS else len(KINDS),
        "count": count,
        "filters": filters,
        "rows": choose_various(store.page(filters, sort, descending, limit=_CANDIDATES)),
    }


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
