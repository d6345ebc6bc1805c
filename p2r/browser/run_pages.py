"""The pages that are not lists of cases: start, runs, labels, data, stories, case study."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from p2r.browser.address import View
from p2r.browser.banner import explain
from p2r.browser.exposure import hide_paths
from p2r.browser.library import Library
from p2r.browser.markup import render, shorten
from p2r.browser.read_view import render_missing
from p2r.browser.run_view import render_agreement, render_data, render_runs
from p2r.browser.start_view import render_start
from p2r.browser.study_view import render_study, story_rows, study_of, title_of
from p2r.cases.agreement import (
    agreement_between_annotators,
    agreement_with_judges,
    krippendorff_alpha,
)
from p2r.cases.labels import CaseLabel
from p2r.errors import StoreError

Parts = dict[str, Any]
MEDIA_FOLDER = "media folder"


def _start(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    return View(tab="start", big=view.big), {"main": render_start(library, view), "title": "Start"}


def _runs(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    chosen = next((run for run in view.filters.run if run in library.folders), None)
    chosen = chosen or next(iter(library.folders))
    return view, {"main": render_runs(view, library.folders, chosen)}


def _agreement(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    labels = library.labels()
    if library.read_only:
        labels, annotator = _without_names(labels), ""
    verdicts = library.store.verdicts(list(dict.fromkeys(label.case for label in labels)))
    page = render_agreement(
        replace(view, page=None),
        agreement_with_judges(labels, verdicts),
        agreement_between_annotators(labels),
        krippendorff_alpha(labels),
        labels,
        library.sample(),
        annotator,
        library.read_only,
    )
    return view, {"main": page}


def _data(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    facts = {name: _facts_of(folder) for name, folder in library.folders.items()}
    faults = library.faults()
    if library.read_only:
        facts = {name: _public(known) for name, known in facts.items()}
        faults = [replace(fault, reason=hide_paths(fault.reason, None)) for fault in faults]
    cards = {
        name: text
        for name, folder in library.folders.items()
        if (text := _read(folder / "README.md"))
    }
    return view, {"main": render_data(library.store, faults, facts, cards, view.blind)}


def _stories(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    rows = story_rows(library, view)
    export = replace(View(tab="stories"), title=view.title, items=view.items).query()
    main = render("stories.html", view=view, rows=rows, export=export)
    return view, {"main": main, "title": view.title or "Stories"}


def _study(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    try:
        case = library.store.get(view.case)
    except StoreError as error:
        return view, {"main": render_missing(view.case, str(error))}
    ids = [case_id for case_id, _ in view.items]
    note = dict(view.items).get(view.case, "")
    parts = {
        "main": render_study(study_of(library, case, note), replace(view, page=None)),
        "title": title_of(explain(case), case),
    }
    if view.case in ids:
        at = ids.index(view.case)
        before, after = (
            view.link(case=ids[n]) if 0 <= n < len(ids) else None for n in (at - 1, at + 1)
        )
        parts["nav"] = render(
            "nav.html",
            view=view,
            filters=None,
            position=at,
            total=len(ids),
            previous=before,
            following=after,
        )
    return view, parts


def _ask(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    return view, {}


def _without_names(labels: Sequence[CaseLabel]) -> list[CaseLabel]:
    """Return the labels with a number in place of each annotator's name, for the public."""
    names = dict.fromkeys(label.annotator for label in labels)
    public = {name: f"person {number}" for number, name in enumerate(names, 1)}
    return [label.model_copy(update={"annotator": public[label.annotator]}) for label in labels]


def _public(facts: Parts) -> Parts:
    """Return the facts of a run without the folders of this machine, for the public."""
    return {name: _hide_folders(value) for name, value in facts.items() if name != MEDIA_FOLDER}


def _hide_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _hide_folders(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_hide_folders(part) for part in value]
    return hide_paths(value, None) if isinstance(value, str) else value


def _facts_of(run: Path) -> dict[str, Any]:
    """Return the facts that a run records about itself."""
    facts: dict[str, Any] = {MEDIA_FOLDER: _media_folder(run)}
    try:
        environment = json.loads(_read(run / "environment.json") or "{}")
        recipe = yaml.safe_load(_read(run / "recipe.yaml") or "{}") or {}
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        return {**facts, "unreadable": shorten(error, 200)}
    names = ("p2r", "commit", "python", "platform", "machine", "cores", "since")
    if isinstance(environment, dict):
        facts |= {name: str(environment[name]) for name in names if environment.get(name)}
    if isinstance(recipe, dict):
        facts |= {f"recipe: {name}": value for name, value in recipe.items()}
    return facts


def _media_folder(run: Path) -> str:
    """Return the media folder of a run as the run names it."""
    return (_read(run / "data_root") or "").strip() or "inside the run folder"


def _read(file: Path, most: int = 200_000) -> str | None:
    try:
        with file.open(encoding="utf-8", errors="replace") as text:
            return text.read(most)
    except OSError:
        return None


RUN_PAGES: dict[str, Callable[[Library, View, str], tuple[View, Parts]]] = {
    "start": _start,
    "runs": _runs,
    "agreement": _agreement,
    "data": _data,
    "stories": _stories,
    "study": _study,
    "ask": _ask,
}
