"""Renders a page of the browser: from an address to the parts of the page as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from markupsafe import Markup

from p2r.browser.address import GROUP_ORDERS, PAGE, TABS, VERDICT_TABS, View
from p2r.browser.banner import explain
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
from p2r.browser.run_pages import RUN_PAGES, Parts
from p2r.browser.scene import observation_truth
from p2r.browser.study_view import title_of
from p2r.cases.selection import Filters
from p2r.cases.store import Neighbours
from p2r.errors import MediaError, StoreError
from p2r.records import Case

# At most so many responses to the same question are listed below a case and its group.
RESPONSES = 48


def render_page(library: Library, view: View, annotator: str = "") -> Parts:
    """Return the parts of a page: "bar", "side", "nav", "main" as HTML, its title and its query.

    Raises `StoreError` if the cases cannot be read any more.
    """
    view = _known_runs(library, view)
    page = _hidden if view.blind and view.tab in VERDICT_TABS else _PAGES[view.tab]
    if library.read_only and view.tab == "ask":
        page = _hidden
    view, parts = page(library, view, annotator)
    shown = {"side": "", "nav": "", "main": "", "title": "", **parts}
    title = shown["title"] or TABS.get(view.tab, "")
    return {
        **{name: str(part) for name, part in shown.items()},
        "title": f"{shorten(title, 90)} · p2r" if title else "p2r cases",
        "bar": str(_render_bar(library, view)),
        "query": view.query(),
        "tab": view.tab,
        "big": view.big,
        "count": library.store.count(),
    }


def _known_runs(library: Library, view: View) -> View:
    """Remove runs from the filters that are not open, or if no other run is open."""
    if not view.filters.run:
        return view
    known = {row["run"] for row in library.store.stages()}
    if view.tab == "runs":
        known |= set(library.folders)
    kept = tuple(run for run in view.filters.run if run in known and len(known) > 1)
    return replace(view, filters=replace(view.filters, run=kept))


def _render_bar(library: Library, view: View) -> Markup:
    tabs = {tab: words for tab, words in TABS.items() if not (library.read_only and tab == "ask")}
    return render(
        "bar.html",
        view=view,
        plain=View(tab="start", big=view.big),
        runs=list(library.folders),
        count=library.store.count(),
        faults=library.faults(),
        tabs=tabs,
    )


def _hidden(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    return view, {"main": render("hidden.html", view=view)}


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
    page = view.page if view.page is not None else own or 0
    shown = replace(view, page=page)
    rows = store.page(view.filters, view.sort, view.descending, page * PAGE, PAGE)
    title, main = _open_case(library, shown, annotator)
    return view, {
        "side": render_find(store, shown, rows, total),
        "nav": render_nav(shown, place),
        "main": main,
        "title": title,
    }


def _open_case(library: Library, view: View, annotator: str) -> tuple[str, Markup]:
    """Return the title and the page of a case. Missing media leave a placeholder and the reason."""
    if not view.case:
        return "", render_missing("", "No case matches these filters. Remove a filter on the left.")
    store = library.store
    try:
        case = store.get(view.case)
    except StoreError as error:
        return "", render_missing(view.case, str(error))
    group = library.group(case)
    same_question = Filters(question_id=(case.trace.question_id,))
    in_group = {row["id"] for row in group}
    found = store.page(same_question, limit=RESPONSES + len(group))
    others = [row for row in found if row["id"] not in in_group]
    labels = library.label_file(case.id).of_case(case.id)
    secret = view.blind and all(label.annotator != annotator for label in labels)
    # Links inside a case set no page: the list then shows the page of the opened case.
    plain = replace(view, page=None)
    label = Markup("")
    if not library.read_only:
        progress = library.progress(annotator, case.id)
        label = render_label(plain, case.id, annotator, labels, progress)
    opened = OpenCase(
        case=case,
        media=_media_of(library, case),
        group=group,
        credit=credit_group(group),
        others=others[:RESPONSES],
        others_total=store.count(same_question) - len(group),
        tokenizer=library.tokenizer(case),
        label=label,
        secret=secret,
        truth=observation_truth(case.question, case.trace.observation),
        read_only=library.read_only,
    )
    title = case.question.problem if view.blind else title_of(explain(case), case)
    return title, render_case(plain, opened)


def _media_of(library: Library, case: Case) -> Markup:
    try:
        library.find_media(case)
    except (MediaError, OSError) as error:
        return render_media(case, str(error))
    return render_media(case, None)


# ---- groups, comparison, gallery


def _groups(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    store = library.store
    _, sort, descending = GROUP_ORDERS[view.by]

    @cache
    def page_of(number: int) -> Sequence[CaseRow]:
        return store.groups(view.filters, sort, descending, number * PAGE, PAGE)

    place = store.group_place(view.case, view.filters, sort, descending)
    # Without a page in the address, the list shows the page of the open group.
    page = (place or 0) // PAGE if view.page is None else view.page
    rows = page_of(page)
    if page and not rows:
        page, rows = 0, page_of(0)
    group = _group_of(library, view.case)
    if len(group) < 2 and rows:
        view = replace(view, case=rows[0]["first_id"])
        group, place = _group_of(library, view.case), page * PAGE
    opened = rows[place % PAGE] if place is not None and place // PAGE == page else None
    shown = replace(view, page=page)
    group = group if len(group) > 1 else []
    cases = replace(view, tab="cases", page=None)
    return view, {
        "side": render_groups(shown, rows, opened),
        "nav": render_nav(shown, _group_neighbours(place, rows, page_of)),
        "main": render_group(shown, group, credit_group(group), cases),
        "title": group[0]["question.problem"] if group else "",
    }


def _group_neighbours(place: int | None, rows: Sequence[CaseRow], page_of: Any) -> Neighbours:
    """Return the place of the open group, and the first cases of the groups beside it."""
    total = rows[0]["total"] if rows else 0
    if place is None:
        return Neighbours(None, total, None, None)
    ids = [
        page_of(at // PAGE)[at % PAGE]["first_id"] if 0 <= at < total else None
        for at in (place - 1, place + 1)
    ]
    return Neighbours(place, total, *ids)


def _group_of(library: Library, case_id: str) -> Sequence[CaseRow]:
    """Return the group of a case; an empty list for a missing or damaged case."""
    try:
        case = library.store.get(case_id)
        rows = library.group(case)
    except StoreError:
        return []
    return [{**row, "question.answer": case.question.answer} for row in rows]


def _compare(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    store = library.store
    stages = store.stages()
    known = {(row["run"], row["stage"]) for row in stages}
    sides = tuple(side for side in dict.fromkeys(view.sides) if side in known)
    opened = _case_to_compare(library, view)
    if len(sides) < 2:
        sides = _propose(library, view, stages, opened)
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
    found = rows[:1]
    if view.question:
        # The list may leave out this question: its filters apply to the first side.
        found = store.compare(sides, Filters(question_id=(view.question,)), (), 0, 1)
    if found:
        view = replace(view, question=found[0]["question.id"])
    shown = replace(view, page=page)
    try:
        cases = [store.get(case_id) for case_id in found[0]["ids"]] if found else []
        # The open case stands for its side, also if another rollout would be taken.
        cases = [
            opened
            if opened and opened.question.id == view.question and side == _side_of(opened)
            else case
            for case, side in zip(cases, sides, strict=False)
        ]
        media = _media_of(library, cases[0]) if cases else Markup("")
        main = render_comparison(replace(view, page=None), cases, media)
    except StoreError as error:
        main = render_missing("", str(error))
    return view, {
        "side": render_sides(shown, filters, stages, counts, rows),
        "main": main,
    }


def _side_of(case: Case) -> tuple[str, str]:
    return case.trace.run, case.trace.stage


def _case_to_compare(library: Library, view: View) -> Case | None:
    """Return the open case if it answers the compared question."""
    try:
        case = library.store.get(view.case) if view.case else None
    except StoreError:
        return None
    return case if case and case.question.id == view.question else None


def _propose(
    library: Library, view: View, stages: Any, opened: Case | None
) -> tuple[tuple[str, str], ...]:
    """Return base, SFT and PA-GRPO; for a question without their answers, those who answered.

    The side of the open case is among them. If nobody else answered its question, the others share
    other questions with its side where possible.
    """
    sides = propose_sides(stages)
    if not view.question:
        return sides
    rows = library.store.page(Filters(question_id=(view.question,)), limit=2000)
    answered = tuple(dict.fromkeys((row["trace.run"], row["trace.stage"]) for row in rows))
    if not all(side in answered for side in sides) and len(answered) > 1:
        sides = answered[:3]
    if opened is not None and len(answered) == 1:  # nobody else answered the question
        shared: tuple[tuple[str, str], ...] = answered
        for row in stages:
            side = (row["run"], row["stage"])
            if len(shared) < 3 and side not in shared:
                counts = library.store.compare_counts((*shared, side))
                shared = (*shared, side) if counts else shared
        sides = shared if len(shared) > 1 else sides
    if opened is not None and _side_of(opened) not in sides:
        sides = (*sides[:2], _side_of(opened))
    return sides


def _gallery(library: Library, view: View, annotator: str) -> tuple[View, Parts]:
    return view, {"main": render_gallery(library.store, replace(view, page=None, case=""))}


_PAGES = {
    "cases": _cases,
    "gallery": _gallery,
    "groups": _groups,
    "compare": _compare,
    **RUN_PAGES,
}
