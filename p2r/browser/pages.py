"""Renders a page of the browser: from an address to the parts of the page as HTML."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from p2r.browser.address import PAGE, TABS, View
from p2r.browser.compare_view import propose_sides, render_comparison, render_sides
from p2r.browser.credit_view import credit_group
from p2r.browser.find_view import render_find, render_nav
from p2r.browser.gallery_view import render_gallery
from p2r.browser.group_view import render_group, render_groups
from p2r.browser.label_view import render_label
from p2r.browser.library import Library
from p2r.browser.markup import CaseRow, render, shorten
from p2r.browser.media_view import render_media
from p2r.browser.read_view import OpenCase, render_case, render_missing
from p2r.browser.run_view import render_agreement, render_data, render_runs
from p2r.cases.agreement import agreement_between_annotators, agreement_with_judges
from p2r.cases.selection import Filters
from p2r.errors import MediaError, StoreError
from p2r.records import Case

# At most so many responses to the same question are listed below a case and its group.
RESPONSES = 48
Parts = dict[str, Any]


def render_page(library: Library, view: View, annotator: str = "") -> Parts:
    """Return the parts of a page: "bar", "side", "nav", "main" as HTML, and its query.

    Raises `StoreError` if the cases cannot be read any more.
    """
    view = _known_runs(library, view)
    view, parts = _PAGES[view.tab](library, view, annotator)
    shown = {"side": "", "nav": "", "main": "", **parts}
    return {
        **{name: str(part) for name, part in shown.items()},
        "bar": str(_render_bar(library, view)),
        "query": view.query(),
        "tab": view.tab,
    }


def _known_runs(library: Library, view: View) -> View:
    """Remove runs from the filters that are not open in this browser."""
    if not view.filters.run:
        return view
    known = {row["run"] for row in library.store.stages()}
    if view.tab == "runs":
        known |= set(library.folders)
    kept = tuple(run for run in view.filters.run if run in known)
    return replace(view, filters=replace(view.filters, run=kept))


def _render_bar(library: Library, view: View) -> Markup:
    return render(
        "bar.html",
        view=view,
        runs=list(library.folders),
        count=library.store.count(),
        faults=library.faults(),
        tabs=TABS,
    )


# ---- cases


def _cases(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    store = library.store
    total = store.count(view.filters)
    if view.page:
        # The list may have become shorter since the link was made.
        view = replace(view, page=min(view.page, max(0, total - 1) // PAGE))
    if not view.case and total:
        first = (view.page or 0) * PAGE
        rows = store.page(view.filters, view.sort, view.descending, first, 1, ["id"])
        view = replace(view, case=rows[0]["id"] if rows else "")
    place = store.neighbours(view.case, view.filters, view.sort, view.descending)
    own = None if place.position is None else place.position // PAGE
    # Without a page in the address, the list shows the page of the open case.
    shown = replace(view, page=view.page if view.page is not None else own or 0)
    rows = store.page(view.filters, view.sort, view.descending, shown.page * PAGE, PAGE)
    return view, {
        "side": render_find(store, shown, rows, total),
        "nav": render_nav(shown, place),
        "main": _open_case(library, shown, annotator),
    }


def _open_case(library: Library, view: View, annotator: str) -> Markup:
    """Return the complete page of a case. Missing media leave a placeholder with the reason."""
    if not view.case:
        return render_missing("", "No case matches these filters. Remove a filter on the left.")
    store = library.store
    try:
        case = store.get(view.case)
    except StoreError as error:
        return render_missing(view.case, str(error))
    group = library.group(case)
    same_question = Filters(question_id=(case.trace.question_id,))
    in_group = {row["id"] for row in group}
    found = store.page(same_question, limit=RESPONSES + len(group))
    others = [row for row in found if row["id"] not in in_group]
    labels = library.label_file(case.id).of_case(case.id)
    secret = view.blind and all(label.annotator != annotator for label in labels)
    following = library.next_to_label(annotator, but=case.id) if view.blind and annotator else None
    # Links inside a case set no page: the list then shows the page of the opened case.
    plain = replace(view, page=None)
    opened = OpenCase(
        case=case,
        media=_media_of(library, case),
        group=group,
        credit=credit_group(group),
        others=others[:RESPONSES],
        others_total=store.count(same_question) - len(group),
        tokenizer=library.tokenizer(case),
        label=render_label(plain, case.id, annotator, labels, following),
        secret=secret,
    )
    return render_case(plain, opened)


def _media_of(library: Library, case: Case) -> Markup:
    try:
        library.find_media(case)
    except (MediaError, OSError) as error:
        return render_media(case, str(error))
    return render_media(case, None)


# ---- groups, comparison, gallery


def _groups(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    store = library.store
    page = view.page or 0
    rows = store.groups(view.filters, "both_spreads", True, page * PAGE, PAGE)
    if page and not rows:
        page, rows = 0, store.groups(view.filters, "both_spreads", True, 0, PAGE)
    group = _group_of(library, view.case)
    if len(group) < 2 and rows:
        view = replace(view, case=rows[0]["first_id"])
        group = _group_of(library, view.case)
    ids = {row["id"] for row in group}
    opened = next((row for row in rows if row["first_id"] in ids), None)
    shown = replace(view, page=page)
    group = group if len(group) > 1 else []
    cases = replace(view, tab="cases", page=None)
    return view, {
        "side": render_groups(shown, rows, opened),
        "main": render_group(shown, group, credit_group(group), cases),
    }


def _group_of(library: Library, case_id: str) -> list[CaseRow]:
    """Return the group of a case; an empty list for a missing or damaged case."""
    try:
        return library.group(library.store.get(case_id))
    except StoreError:
        return []


def _compare(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    store = library.store
    stages = store.stages()
    known = {(row["run"], row["stage"]) for row in stages}
    sides = tuple(side for side in dict.fromkeys(view.sides) if side in known)
    if len(sides) < 2:
        sides = _propose(library, view, stages)
    view = replace(view, sides=sides)
    page = view.page or 0
    # The sides replace the filters of run and stage; the patterns replace those of the outcome.
    filters = replace(view.filters, run=(), stage=(), verdict=None, outcome=None, failure=())
    if len(sides) < 2:
        side = render_sides(view, filters, stages, {}, [])
        return view, {"side": side, "main": render_comparison(view, [], Markup(""))}
    counts = store.compare_counts(sides, filters)
    outcomes = tuple(outcome or None for outcome in view.outcomes[: len(sides)])
    rows = store.compare(sides, filters, outcomes, page * PAGE, PAGE)
    if page and not rows:
        page, rows = 0, store.compare(sides, filters, outcomes, 0, PAGE)
    one = replace(filters, question_id=(view.question,))
    found = store.compare(sides, one, (), 0, 1) if view.question else []
    found = found or rows[:1]
    if found:
        view = replace(view, question=found[0]["question.id"])
    shown = replace(view, page=page)
    try:
        cases = [store.get(case_id) for case_id in found[0]["ids"]] if found else []
        media = _media_of(library, cases[0]) if cases else Markup("")
        main = render_comparison(replace(view, page=None), cases, media)
    except StoreError as error:
        main = render_missing("", str(error))
    return view, {
        "side": render_sides(shown, filters, stages, counts, rows),
        "main": main,
    }


def _propose(library: Library, view: View, stages: Any) -> tuple[tuple[str, str], ...]:
    """Return base, SFT and PA-GRPO; for a question without their answers, those who answered."""
    sides = propose_sides(stages)
    if not view.question:
        return sides
    rows = library.store.page(Filters(question_id=(view.question,)), limit=2000)
    answered = list(dict.fromkeys((row["trace.run"], row["trace.stage"]) for row in rows))
    if all(side in answered for side in sides):
        return sides
    return tuple(answered[:3]) if len(answered) > 1 else sides


def _gallery(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    return view, {"main": render_gallery(library.store, replace(view, page=None))}


# ---- pages about runs


def _runs(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    chosen = next((run for run in view.filters.run if run in library.folders), None)
    chosen = chosen or next(iter(library.folders))
    return view, {"main": render_runs(view, library.folders, chosen)}


def _agreement(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    labels = library.labels()
    verdicts = library.store.verdicts(list(dict.fromkeys(label.case for label in labels)))
    page = render_agreement(
        replace(view, page=None),
        agreement_with_judges(labels, verdicts),
        agreement_between_annotators(labels),
        labels,
        library.sample(),
        annotator,
    )
    return view, {"main": page}


def _data(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    facts = {name: _facts_of(folder) for name, folder in library.folders.items()}
    cards = {
        name: text
        for name, folder in library.folders.items()
        if (text := _read(folder / "README.md"))
    }
    return view, {"main": render_data(library.store, library.faults(), facts, cards)}


def _facts_of(run: Path) -> dict[str, Any]:
    """Return the facts that a run records about itself."""
    import json

    import yaml

    facts: dict[str, Any] = {"media folder": _media_folder(run)}
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


def _ask(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    return view, {}


_PAGES = {
    "cases": _cases,
    "gallery": _gallery,
    "groups": _groups,
    "compare": _compare,
    "runs": _runs,
    "agreement": _agreement,
    "data": _data,
    "ask": _ask,
}
