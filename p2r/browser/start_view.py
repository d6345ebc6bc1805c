"""The start page: the idea in three sentences, the headline results, one case of each kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.banner import explain
from p2r.browser.curves_view import read_results
from p2r.browser.library import Library
from p2r.browser.markup import render
from p2r.browser.stage_view import StageCounts, count_stages
from p2r.browser.words import CELLS, MEANINGS
from p2r.cases.selection import Cell, Filters
from p2r.cases.store import CaseStore
from p2r.errors import StoreError
from p2r.records import Case
from p2r.runs.names import is_of_split, model_label, model_place

_CANDIDATES = 24
_TRIED = 3
_MOST_STAGES = 12
_SHORT = 150  # tokens of an observation that fits on the page
# Metric of the evaluation -> its name on the page.
_METRICS = {
    "accuracy": "accuracy: right answers",
    "sufficiency": "sufficient observations",
    "sufficient and true": "observations that are sufficient and true",
    "faithful": "true sentences in the observations",
}


def render_start(library: Library, view: View) -> Markup:
    """Return the start page."""
    store = library.store
    stages = count_stages(store.tally())
    shown = [stage for stage in stages if stage.stage.startswith("eval-") and stage.known]
    shown = shown or [stage for stage in stages if stage.known]
    chosen = {}
    for cell in CELLS:
        case = choose_case(store, cell, sorted(shown, key=_rank))
        if case is not None:
            chosen[cell] = (case, explain(case), _to_cell(view, cell, case))
    return render(
        "start.html",
        view=View(big=view.big),
        count=store.count(),
        runs=list(library.folders),
        stages=shown[:_MOST_STAGES],
        chosen=chosen,
        missing=[MEANINGS[cell] for cell in CELLS if cell not in chosen],
        results=list(_read_headlines(library.folders)),
        read_only=library.read_only,
        # Counting rollouts is much cheaper than listing groups.
        has_groups=any(store.values("trace.rollout")),
    )


def _rank(stage: StageCounts) -> tuple[bool, bool]:
    """Rank the stages for examples: other splits first, PA-GRPO on the test split last."""
    return not is_of_split(stage.stage), stage.stage == "eval-pa_grpo"


def choose_case(store: CaseStore, cell: Cell, stages: list[StageCounts]) -> Case | None:
    """Return an instructive case of a cell: from the last stage that has one, short, with text.

    A case that is "seen and solved" should be true as well, where that is known.
    """
    verdict, outcome = cell
    for stage in [*reversed(stages), None]:
        if stage is not None and not stage.cells[cell]:
            continue
        for truth in ("true", None) if verdict == "yes" else (None,):
            filters = Filters(verdict=verdict, outcome=outcome, fault=False, truth=truth)
            if stage is not None:
                filters = replace(filters, run=(stage.run,), stage=(stage.stage,))
            # Lengths are in the table. Observations would be read from the files of the run.
            rows = store.page(filters, limit=_CANDIDATES, columns=["id", "trace.perception_tokens"])
            short = [row for row in rows if 0 < (row["trace.perception_tokens"] or 0) < _SHORT]
            for row in [*short, *rows][:_TRIED]:
                with contextlib.suppress(StoreError):  # a damaged row
                    case = store.get(row["id"])
                    if case.trace.observation:
                        return case
    return None


def _to_cell(view: View, cell: Cell, case: Case) -> str:
    filters = Filters(
        verdict=cell[0], outcome=cell[1], run=(case.trace.run,), stage=(case.trace.stage,)
    )
    return View(tab="cases", case=case.id, filters=filters, big=view.big).link()


def _read_headlines(folders: Mapping[str, Path]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield (metric of a run, rows of the evaluated models) for the metrics that models share."""
    for run, folder in folders.items():
        results = {n: row for n, row in read_results(folder).items() if not is_of_split(n)}
        names = sorted(results, key=model_place)
        for metric, words in _METRICS.items():
            rows = [
                {"model": model_label(name), **results[name][metric]}
                for name in names
                if metric in results[name] and 0 <= results[name][metric]["mean"] <= 1
            ]
            if rows:
                title = words if len(folders) == 1 else f"{run}: {words}"
                yield title, rows
