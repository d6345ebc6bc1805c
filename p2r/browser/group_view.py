"""The Groups tab: the questions with several rollouts, and the credit of the open group."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.credit_view import GroupCredit, render_group_credit
from p2r.browser.find_view import render_active, render_pager
from p2r.browser.markup import CaseRow, chip, join, number, shorten, visible
from p2r.browser.read_view import render_responses


def render_groups(view: View, groups: Sequence[CaseRow], opened: CaseRow | None) -> Markup:
    """Return the list of groups. `opened`: the row of the group that is shown."""
    if not groups:
        return Markup(
            '<div class="side-head"><h2>Rollouts in groups</h2>{}</div><div id="list">'
            '<p class="empty">No question has several rollouts under these filters. RL writes '
            "groups, and so does sampling with several responses per question.</p></div>"
        ).format(render_active(view))
    total = groups[0]["total"]
    items = join(_render_item(view, row, row is opened) for row in groups)
    return Markup(
        '<div class="side-head"><h2>Rollouts in groups</h2><p>{:,} group{}, those with the '
        'largest differences in both rewards first</p>{}</div><div id="list">{}<nav class="cases" '
        'aria-label="groups">{}</nav></div>'
    ).format(
        total,
        "s" * (total != 1),
        render_active(view),
        render_pager(view, len(groups), total),
        items,
    )


def _render_item(view: View, row: CaseRow, is_open: bool) -> Markup:
    marks = [
        chip("warn", f"{name} collapsed")
        for name, flat in (
            ("perception", row["perception_collapsed"]),
            ("reasoning", row["reasoning_collapsed"]),
        )
        if flat
    ]
    where = [row["trace.stage"] or row["trace.run"]]
    where += [] if row["trace.step"] is None else [f"step {row['trace.step']}"]
    return Markup(
        '<a class="item" href="{}" data-go {}><span class="q" dir="auto">{}</span>'
        '<span class="meta">{}<span class="where">{} of {} right · {} sufficient · {}</span></span>'
        "</a>"
    ).format(
        view.link(case=row["first_id"]),
        Markup('aria-current="true"') if is_open else "",
        shorten(row["question.problem"], 140),
        join(marks),
        row["n_right"],
        row["size"],
        row["n_sufficient"],
        shorten(" · ".join(word for word in where if word), 60),
    )


def render_group(
    view: View, rows: Sequence[CaseRow], credit: GroupCredit | None, case_link: View
) -> Markup:
    """Return the open group: its question, the picture of credit, and the table of rollouts."""
    if not rows:
        return Markup('<p class="empty">Choose a group on the left.</p>')
    first = rows[0]
    flat = [name for name, is_flat in (credit.collapsed if credit else {}).items() if is_flat]
    picture = (
        render_group_credit(credit, view.case, lambda case: case_link.link(case=case))
        if credit
        else Markup(
            '<section class="card"><p class="absent">The rewards of this group are unknown, so '
            "no credit can be shown.</p></section>"
        )
    )
    means = [
        chip(
            "",
            Markup("mean R<sub>{}</sub> {}").format(
                process[0].upper(), number(_mean(rows, f"{process}_reward"))
            ),
        )
        for process in ("perception", "reasoning")
    ]
    return Markup(
        '<div class="page"><header class="page-head"><h2 dir="auto">{}</h2><p class="about">{}{}{}'
        '</p></header>{}<section class="card responses"><h3>Rollouts</h3>{}</section></div>'
    ).format(
        visible(first["question.problem"]),
        chip("", f"{len(rows)} rollouts"),
        join(means),
        join(chip("warn", f"{name} collapsed: no signal") for name in flat),
        picture,
        render_responses("rollouts of the group", case_link, rows, view.case),
    )


def _mean(rows: Sequence[CaseRow], column: str) -> float | None:
    known = [row[column] for row in rows if row[column] is not None]
    return sum(known) / len(known) if known else None
