"""The case browser: what a model saw, said and concluded, case by case, over the cases of runs.

`launch` serves it on this machine. Lists are filtered, sorted and paged by the store; the page in
the browser holds one page of the list and one case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from apps.case_views import render_case, render_missing
from apps.library import Library
from apps.list_views import render_list, render_nav, render_quadrants, render_title
from apps.look import ACTIONS, CSS, ON_CASE, ON_LIST, SCRIPT, make_theme
from apps.media_views import render_media
from p2r.media import MediaError
from p2r.store import CaseStore, Filters, StoreError

PAGE = 50
# How many responses to the open case's question are listed beside its own group.
RESPONSES = 48
FACETS = {
    "stage": "trace.stage",
    "problem_type": "question.problem_type",
    "source": "question.source",
    "data_type": "question.data_type",
    "run": "trace.run",
}
SORTS = {
    "as written": None,
    "training step": "trace.step",
    "answer accuracy": "accuracy",
    "perception reward": "perception_reward",
    "reasoning reward": "reasoning_reward",
    "perception advantage": "perception_advantage",
    "reasoning advantage": "reasoning_advantage",
    "length in tokens": "trace.completion_tokens",
}


@dataclass(frozen=True)
class View:
    """What a visitor looks at: which cases in which order, which page of them, which case."""

    filters: Filters = field(default_factory=Filters)
    sort: str | None = None
    descending: bool = False
    page: int = 0
    case: str = ""


def launch(
    runs: Sequence[str | Path],
    media_root: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = 7860,
    open_browser: bool = False,
    block: bool = True,
) -> gr.Blocks:
    """Serve the case browser over run folders (or Parquet files) until it is interrupted.

    `media_root` holds the media of all runs; left out, each run has its own (`find_media_root`).
    `port` None takes the first free one from 7860. With `block=False` the call returns at once:
    `.local_url` of the result is the address, `.close()` ends it.

    Raises `StoreError` for runs without cases, `OSError` for a port that is taken.
    """
    library = Library(runs, media_root)
    app = _build(library)
    app.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        show_error=True,
        theme=make_theme(),
        css=CSS,
        head=f"<script>{SCRIPT}</script>",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size="1kb",
        app_kwargs={"routes": library.routes()},
    )
    if block:
        print(f"case browser: {app.local_url} (Ctrl+C ends it)", flush=True)
        app.block_thread()
    return app


def build_app(runs: Sequence[str | Path], media_root: str | Path | None = None) -> gr.Blocks:
    """The browser as a Gradio app that is not served yet; `launch` adds its look and its media."""
    return _build(Library(runs, media_root))


def _build(library: Library) -> gr.Blocks:
    with gr.Blocks(title="p2r cases", analytics_enabled=False, fill_width=True) as app:
        view = gr.State(View())
        with gr.Row(elem_id="browser"):
            with gr.Column(elem_id="sidebar", scale=0, min_width=380):
                _html("title", value=render_title(library.store.files, library.store.count()))
                controls = _make_controls(library.store)
                quadrants = _html("quadrants", ACTIONS)
                listing = _html("list", ACTIONS + ON_LIST)
            with gr.Column(elem_id="main", scale=1, min_width=480):
                nav = _html("nav", ACTIONS)
                shown = _html("case", ACTIONS + ON_CASE)

        def draw_list(now: View) -> dict[Any, Any]:
            return {
                view: now,
                quadrants: _draw_quadrants(library.store, now),
                listing: _draw_listing(library.store, now),
                nav: _draw_nav(library.store, now),
            }

        def open_case(now: View, case_id: str) -> dict[Any, Any]:
            now = _turn_to(library.store, replace(now, case=case_id))
            return {**draw_list(now), shown: _draw_case(library, case_id)}

        def on_load(now: View, request: gr.Request) -> dict[Any, Any]:
            first = library.store.page(now.filters, limit=1, columns=["id"])
            asked_for = request.query_params.get("case")
            return open_case(now, asked_for or (first[0]["id"] if first else ""))

        def on_controls(data: dict[Any, Any]) -> dict[Any, Any]:
            values = {name: data[control] for name, control in controls.items()}
            return draw_list(_apply_controls(data[view], values))

        def on_action(now: View, event: gr.EventData) -> dict[Any, Any]:
            if event.action == "open":
                return open_case(now, str(event.case))
            if event.action == "step":
                neighbour = _find_neighbour(library.store, now, int(event.by))
                return open_case(now, neighbour) if neighbour else draw_list(now)
            if event.action == "page":
                return draw_list(replace(now, page=max(0, int(event.page))))
            return draw_list(_choose_cell(now, event.verdict, event.outcome))

        drawn = [view, quadrants, listing, nav]
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        app.load(on_load, view, [*drawn, shown], **quiet)
        gr.on(
            [control.change for control in controls.values()],
            on_controls,
            {view, *controls.values()},
            drawn,
            trigger_mode="always_last",
            **quiet,
        )
        # One at a time and none dropped: three presses of a key are three steps.
        gr.on(
            [component.click for component in (quadrants, listing, nav, shown)],
            on_action,
            view,
            [*drawn, shown],
            trigger_mode="multiple",
            **quiet,
        )
    return app


def _html(name: str, js: str | None = None, value: Markup | str = "") -> gr.HTML:
    return gr.HTML(value, elem_id=name, js_on_load=js, apply_default_css=False)


def _make_controls(store: CaseStore) -> dict[str, gr.components.Component]:
    """Search, facets that offer a choice, faults, order: by the names `_apply_controls` reads."""
    controls: dict[str, gr.components.Component] = {
        "text": gr.Textbox(
            placeholder="search in questions, responses, rationales",
            label="search",
            show_label=False,
            container=False,
            elem_id="search",
        )
    }
    with gr.Accordion("Filters and order", open=False, elem_id="filters"):
        for name, column in FACETS.items():
            values = store.values(column)
            if len(values) > 1:
                choices = [(f"{value or 'none'} ({n:,})", value) for value, n in values.items()]
                label = name.replace("_", " ")
                controls[name] = gr.Dropdown(choices, value=[], multiselect=True, label=label)
        controls["fault"] = gr.Checkbox(label="only responses with format faults")
        controls["truncated"] = gr.Checkbox(label="only truncated responses")
        controls["sort"] = gr.Dropdown(list(SORTS), value="as written", label="order by")
        controls["descending"] = gr.Checkbox(label="largest first", value=False)
    return controls


def _apply_controls(now: View, values: dict[str, Any]) -> View:
    """The view after a change of search, facets or order: its first page."""
    facets = {name: tuple(values.get(name) or ()) for name in FACETS}
    filters = replace(
        now.filters,
        text=(values["text"] or "").strip(),
        fault=values["fault"] or None,
        truncated=values["truncated"] or None,
        **facets,
    )
    sort = SORTS[values["sort"]]
    return replace(now, filters=filters, sort=sort, descending=values["descending"], page=0)


def _choose_cell(now: View, verdict: str, outcome: str) -> View:
    """The view after a click on the 2 x 2; a second click on the same cell takes it back."""
    chosen = (verdict or None, outcome or None)
    if chosen == (now.filters.verdict, now.filters.outcome):
        chosen = (None, None)
    return replace(now, filters=replace(now.filters, verdict=chosen[0], outcome=chosen[1]), page=0)


def _turn_to(store: CaseStore, now: View) -> View:
    """The view on the page of the list that holds the open case, where one does."""
    position = store.position(now.case, now.filters, now.sort, now.descending)
    return now if position is None else replace(now, page=position // PAGE)


def _find_neighbour(store: CaseStore, now: View, by: int) -> str | None:
    position = store.position(now.case, now.filters, now.sort, now.descending)
    if position is None or position + by < 0:
        return None
    rows = store.page(now.filters, now.sort, now.descending, position + by, 1, columns=["id"])
    return rows[0]["id"] if rows else None


def _draw_quadrants(store: CaseStore, now: View) -> Markup:
    return render_quadrants(
        store.quadrants(now.filters), (now.filters.verdict, now.filters.outcome)
    )


def _draw_listing(store: CaseStore, now: View) -> Markup:
    rows = store.page(now.filters, now.sort, now.descending, now.page * PAGE, PAGE)
    return render_list(rows, now.page, PAGE, store.count(now.filters), now.case)


def _draw_nav(store: CaseStore, now: View) -> Markup:
    position = store.position(now.case, now.filters, now.sort, now.descending)
    return render_nav(position, store.count(now.filters))


def _draw_case(library: Library, case_id: str) -> Markup:
    """A case whole; media that cannot be had leave a placeholder with the reason."""
    store = library.store
    try:
        case = store.get(case_id)
    except StoreError as error:
        return render_missing(case_id, str(error))
    problem = None
    try:
        library.find_media(case)
    except MediaError as error:
        problem = str(error)
    trace = case.trace
    group = store.group(trace.question_id, trace.run, trace.stage, trace.step)
    same_question = Filters(question_id=(trace.question_id,))
    in_group = {row["id"] for row in group}
    others = [
        row
        for row in store.page(same_question, limit=RESPONSES + len(group))
        if row["id"] not in in_group
    ]
    return render_case(
        case,
        render_media(case, problem),
        group,
        others[:RESPONSES],
        store.count(same_question) - len(group),
    )
