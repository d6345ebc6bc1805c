"""The tabs about runs: curves, judge agreement, data card."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.markup import chip, join, number, prose, render_table, shorten, visible
from p2r.browser.panels_view import render_fact
from p2r.cases.agreement import ANSWERS, Agreement, Measured
from p2r.cases.files import CaseFault
from p2r.cases.labels import CaseLabel, latest_labels
from p2r.cases.store import CaseStore

_WORDS = {"yes": "sufficient", "no": "not sufficient", "unknown": "unknown"}


def render_runs(view: View, folders: Mapping[str, Path], chosen: str) -> Markup:
    """Return the Runs tab: the choice of a run, and the place where the page draws its curves."""
    links = join(
        Markup('<a class="button" href="{}" data-go {}>{}</a>').format(
            view.narrowed(run=(name,)),
            Markup('aria-current="true"') if name == chosen else "",
            shorten(name, 50),
        )
        for name in folders
    )
    query = urlencode({"run": chosen})
    return Markup(
        '<div class="page wide"><header class="page-head"><h2>Runs</h2><p class="row">{}'
        '<span class="live" role="status" data-live></span></p></header>'
        '<div class="figures" data-figures="p2r/figures?{}" aria-live="polite">'
        '<p class="absent">loading metrics …</p></div></div>'
    ).format(links, query)


def render_agreement(
    view: View,
    judges: Mapping[str, Mapping[str, Agreement]],
    annotators: Mapping[tuple[str, str], Agreement],
    labels: Sequence[CaseLabel],
    sample: Sequence[str],
    annotator: str,
) -> Markup:
    """Return the Judge agreement tab: people, judges, and the sample to label."""
    counted = latest_labels(labels)
    mine = {case for (name, case) in counted if name == annotator}
    waiting = [case for case in sample if case not in mine]
    start = Markup('<p class="note">These runs have no judged case.</p>')
    if sample:
        done = len(sample) - len(waiting)
        link = view.link(tab="cases", case=waiting[0], blind=True) if waiting else ""
        action = (
            Markup(
                '<a class="button primary" href="{}" data-go id="start-labelling">label the next '
                "case in blind mode</a>"
            ).format(link)
            if waiting
            else chip("good", "all labelled")
        )
        start = Markup(
            '<div class="progress"><span style="width:{:.1f}%"></span></div><p class="row">'
            "{} of {} labelled by {} {}</p>"
        ).format(100 * done / len(sample), done, len(sample), visible(annotator) or "you", action)
    people = join(
        chip("", f"{name}: {count}") for name, count in _count(name for name, _ in counted).items()
    )
    exports = join(
        Markup('<a class="button" href="p2r/labels?kind={}" download>labels as {}</a>').format(
            kind, kind.upper()
        )
        for kind in ("csv", "jsonl")
    )
    given = Markup('<p class="row">{}</p><p class="row">{}</p>').format(people, exports)
    tables = join(_render_judge(judge, found) for judge, found in judges.items()) or Markup(
        '<section class="card"><p class="absent">No judged case has a label yet. '
        "With labels, this page shows accuracy, Cohen’s κ and a confusion table for each judge."
        "</p></section>"
    )
    between = Markup("")
    if annotators:
        rows = [
            [
                f"{first} and {second}",
                found.n,
                _said(found.accuracy, percent=True),
                _said(found.kappa),
            ]
            for (first, second), found in annotators.items()
        ]
        between = Markup('<section class="card"><h3>Between annotators</h3>{}</section>').format(
            render_table(["annotators", "cases", "agreement", "Cohen’s κ"], rows)
        )
    return Markup(
        '<div class="page wide"><header class="page-head"><h2>Do judges agree with people?</h2>'
        "<p>Intervals are 95 %: Wilson for shares, bootstrap for κ. Cases that either side calls "
        'unknown are counted, but left out of the measures.</p></header><section class="card">'
        "<h3>Sample to label <small>the same {} cases for all annotators</small></h3>{}{}</section>"
        "{}{}</div>"
    ).format(len(sample), start, given if labels else "", tables, between)


def _render_judge(judge: str, found: Mapping[str, Agreement]) -> Markup:
    rows = [
        [
            name,
            agreement.n,
            _said(agreement.accuracy, percent=True),
            _said(agreement.kappa),
            _said(agreement.recall, percent=True),
            _said(agreement.specificity, percent=True),
        ]
        for name, agreement in found.items()
    ]
    head = [
        "annotator",
        "cases",
        "accuracy",
        "Cohen’s κ",
        "judge agrees on sufficient",
        "judge agrees on not sufficient",
    ]
    tables = join(_render_confusion(name, agreement) for name, agreement in found.items())
    return Markup(
        '<section class="card"><h3>Judge <b dir="auto">{}</b></h3>{}<div class="confusions">{}'
        "</div></section>"
    ).format(visible(judge) or "(no name)", render_table(head, rows), tables)


def _render_confusion(name: str, agreement: Agreement) -> Markup:
    total = max(agreement.confusion.values(), default=0) or 1
    head = join(Markup('<th scope="col">{}</th>').format(_WORDS[answer]) for answer in ANSWERS)
    body = join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            _WORDS[first],
            join(
                Markup('<td class="{}" style="--heat:{:.2f}">{}</td>').format(
                    "same" if first == second else "",
                    agreement.confusion[first, second] / total,
                    agreement.confusion[first, second],
                )
                for second in ANSWERS
            ),
        )
        for first in ANSWERS
    )
    return Markup(
        '<table class="confusion"><caption>{}: rows are people’s answers, columns the judge’s'
        "</caption><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table>"
    ).format(shorten(name, 60), head, body)


def _said(interval: Measured, percent: bool = False) -> str:
    if interval.value is None:
        return "–"
    scale, digits = (100, 1) if percent else (1, 2)
    value, low, high = (
        number(scale * part, digits=digits)
        for part in (interval.value, interval.low, interval.high)
    )
    return f"{value}{' %' if percent else ''} [{low}, {high}]"


def _count(names: Any) -> dict[str, int]:
    return {name: len(list(found)) for name, found in itertools.groupby(sorted(names))}


def render_data(
    store: CaseStore,
    faults: Sequence[CaseFault],
    facts: Mapping[str, Mapping[str, Any]],
    cards: Mapping[str, str],
) -> Markup:
    """Return the Data card tab: counts, how the runs were made, and what cannot be read."""
    stages = [
        [
            row["run"],
            row["stage"],
            f"{row['n']:,}",
            f"{row['questions']:,}",
            "–" if row["last_step"] is None else f"{row['first_step']} to {row['last_step']}",
        ]
        for row in store.stages()
    ]
    facets = store.facets()
    counts = join(
        Markup('<section class="card"><h3>{}</h3>{}</section>').format(
            title,
            render_table(
                ["value", "cases"],
                [
                    [_WORDS.get(value, value) if name == "verdict" else value or "none", f"{n:,}"]
                    for value, n in list(facets[name].items())[:20]
                ],
            ),
        )
        for name, title in (
            ("problem_type", "Problem types"),
            ("data_type", "Data types"),
            ("source", "Sources"),
            ("model", "Models"),
            ("verdict", "Verdicts"),
            ("failure", "Failure kinds"),
        )
        if facets.get(name)
    )
    made = join(
        Markup('<section class="card"><h3 dir="auto">{}</h3><dl>{}</dl>{}</section>').format(
            visible(run),
            join(
                Markup("<dt>{}</dt><dd>{}</dd>").format(visible(key), render_fact(value))
                for key, value in known.items()
            ),
            Markup('<details id="card-{}"><summary>Data card</summary>{}</details>').format(
                place, prose(cards[run], "")
            )
            if run in cards
            else "",
        )
        for place, (run, known) in enumerate(facts.items())
    )
    return Markup(
        '<div class="page wide"><header class="page-head"><h2>Data card</h2><p>{:,} cases are '
        'open.</p></header>{}<section class="card"><h3>Stages</h3>{}</section>'
        '<div class="card-grid">{}</div><h2 class="section">How the runs were made</h2>{}</div>'
    ).format(
        store.count(),
        render_faults(faults),
        render_table(["run", "stage", "cases", "questions", "steps"], stages),
        counts,
        made,
    )


def render_faults(faults: Sequence[CaseFault]) -> Markup:
    """Return the list of the parts that cannot be read, with the reasons."""
    if not faults:
        return Markup("")
    items = join(
        Markup("<li><b>{}</b>: {}</li>").format(
            visible(f"{fault.path.parent.name}/{fault.path.name}"), shorten(fault.reason, 300)
        )
        for fault in faults[:20]
    )
    more = len(faults) - 20
    note = Markup("<li>and {:,} more</li>").format(more) if more > 0 else ""
    return Markup(
        '<section class="card faults"><h3>Unreadable parts</h3><ul>{}{}</ul></section>'
    ).format(items, note)
