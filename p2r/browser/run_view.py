"""The tabs about runs: curves, judge agreement, data card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from p2r.browser.address import LONGEST_WINDOW, View
from p2r.browser.markup import number, render
from p2r.browser.words import FAILURE_WORDS, VERDICT_WORDS, stage_place, stage_words
from p2r.cases.agreement import Agreement, Measured
from p2r.cases.files import CaseFault
from p2r.cases.labels import CaseLabel, latest_labels
from p2r.cases.store import CaseStore

_WORDS = {"yes": "sufficient", "no": "not sufficient", "unknown": "unknown"}
FACETS = {
    "problem_type": "Problem types",
    "data_type": "Data types",
    "source": "Sources",
    "model": "Models",
    "verdict": "Verdicts",
    "failure": "Failure kinds",
}


def render_runs(view: View, folders: Mapping[str, Path], chosen: str) -> Markup:
    """Return the Runs tab: the choice of a run, and the place where the page draws its curves."""
    return render(
        "runs.html",
        plain=replace(view, window=1),
        folders=folders,
        chosen=chosen,
        longest=LONGEST_WINDOW,
    )


def render_agreement(
    view: View,
    judges: Mapping[str, Mapping[str, Agreement]],
    annotators: Mapping[tuple[str, str], Agreement],
    alpha: Measured,
    labels: Sequence[CaseLabel],
    sample: Sequence[str],
    annotator: str,
    read_only: bool = False,
) -> Markup:
    """Return the Labels tab: people, judges, and the sample to label."""
    counted = latest_labels(labels)
    head = ["annotator", "cases", "accuracy", "Cohen’s κ"]
    head += ["judge agrees on sufficient", "judge agrees on not sufficient"]
    return render(
        "agreement.html",
        view=view,
        annotator=annotator,
        read_only=read_only,
        alpha=_said(alpha),
        alpha_cases=alpha.n,
        sample=sample,
        waiting=[case for case in sample if (annotator, case) not in counted],
        people=sorted(Counter(name for name, _ in counted).items()),
        words=_WORDS,
        judges=[
            (
                judge,
                head,
                [
                    _row(name, m, m.accuracy, m.kappa, m.recall, m.specificity)
                    for name, m in _majority_first(found)
                ],
                [(name, measures.confusion) for name, measures in _majority_first(found)],
            )
            for judge, found in ((judge, measured.items()) for judge, measured in judges.items())
        ],
        annotators=[
            _row(f"{first} and {second}", found, found.accuracy, found.kappa)
            for (first, second), found in annotators.items()
        ],
    )


def _majority_first(found: Iterable[tuple[str, Agreement]]) -> list[tuple[str, Agreement]]:
    return sorted(found, key=lambda pair: (pair[0] != "majority", pair[0]))


def _row(name: str, agreement: Agreement, *measures: Measured) -> list[Any]:
    """Return a row of a table of measures. All are shares, except κ."""
    said = [_said(measure, percent=measure is not agreement.kappa) for measure in measures]
    return [name, agreement.n, *said]


def _said(interval: Measured, percent: bool = False) -> str:
    if interval.value is None or interval.low is None or interval.high is None:
        return "–"
    scale, digits = (100, 1) if percent else (1, 2)
    value, low, high = (
        number(scale * part, digits=digits)
        for part in (interval.value, interval.low, interval.high)
    )
    return f"{value}{' %' if percent else ''} [{low}, {high}]"


def render_data(
    store: CaseStore,
    faults: Sequence[CaseFault],
    facts: Mapping[str, Mapping[str, Any]],
    cards: Mapping[str, str],
    blind: bool = False,
) -> Markup:
    """Return the Data tab: counts, how the runs were made, and what cannot be read."""
    stages = [
        [
            row["run"],
            stage_words(row["stage"]),
            f"{row['n']:,}",
            f"{row['questions']:,}",
            "–" if row["last_step"] is None else f"{row['first_step']} to {row['last_step']}",
        ]
        for row in sorted(store.stages(), key=lambda row: (row["run"], *stage_place(row["stage"])))
    ]
    counts = store.facets()
    said = {
        "verdict": {value: word for value, (_, _, word) in VERDICT_WORDS.items()},
        "failure": FAILURE_WORDS,
    }
    facets = [
        (
            title,
            [
                (said.get(name, {}).get(value, value) or "none", f"{n:,}")
                for value, n in list(counts[name].items())[:20]
            ],
        )
        for name, title in FACETS.items()
        if counts.get(name) and not (blind and name in ("verdict", "failure"))
    ]
    return render(
        "data.html",
        count=store.count(),
        faults=faults,
        stages=stages,
        facets=facets,
        runs=facts,
        cards=cards,
    )
