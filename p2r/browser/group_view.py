"""The Groups tab: the questions with several rollouts, and the credit of the open group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from p2r.browser.address import GROUP_ORDERS, View
from p2r.browser.credit_view import GroupCredit, render_group_credit
from p2r.browser.find_view import clear_link, list_active
from p2r.browser.markup import CaseRow, render
from p2r.rewards import PROCESSES


def render_groups(view: View, groups: Sequence[CaseRow], opened: CaseRow | None) -> Markup:
    """Return the list of groups. `opened`: the row of the group that is shown."""
    return render(
        "groups.html",
        view=view,
        groups=groups,
        kept=[
            pair for pair in replace(view, by="", case="", page=None).pairs() if pair[0] != "text"
        ],
        orders=[(name, words) for name, (words, *_) in GROUP_ORDERS.items()],
        opened=opened,
        active_filters=list_active(view),
        clear=clear_link(view),
    )


def render_group(
    view: View, rows: Sequence[CaseRow], credit: GroupCredit | None, case_link: View
) -> Markup:
    """Return the open group. `case_link` makes the links to its rollouts."""
    return render(
        "group.html",
        view=view,
        rows=rows,
        case_link=case_link,
        means=[(process[0].upper(), _mean(rows, f"{process}_reward")) for process in PROCESSES],
        scheme=credit.scheme if credit else "",
        collapsed=credit.names_collapsed() if credit else [],
        picture=render_group_credit(credit, view.case, case_link) if credit else "",
    )


def _mean(rows: Sequence[CaseRow], column: str) -> float | None:
    known = [row[column] for row in rows if row[column] is not None]
    return sum(known) / len(known) if known else None
