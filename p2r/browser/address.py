"""Reads and writes the query of an address, so that every state of the browser has a link.

A page is rendered from its address alone. The server keeps no state of a visitor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from p2r.cases.selection import COLUMNS, LONG, OUTCOMES, Filters, from_query, to_query

TABS = {
    "cases": "Cases",
    "gallery": "Failures",
    "groups": "Groups & credit",
    "compare": "Compare",
    "runs": "Runs",
    "agreement": "Judge agreement",
    "data": "Data card",
    "ask": "Ask",
}
PAGE = 50
MAX_SIDES = 3

Side = tuple[str, str]  # (run, stage)


@dataclass(frozen=True)
class View:
    """The state of the browser: a tab, the filters, order and page of its list, the open case.

    `page` None is the page that holds the open case. `sides` are the (run, stage) of a comparison,
    `outcomes` the required outcome of each side ("" for any), `question` the compared question.
    `blind` hides the verdict and the rewards until the visitor has labelled the case.
    """

    tab: str = "cases"
    case: str = ""
    filters: Filters = field(default_factory=Filters)
    sort: str | None = None
    descending: bool = False
    page: int | None = None
    sides: tuple[Side, ...] = ()
    outcomes: tuple[str, ...] = ()
    question: str = ""
    blind: bool = False

    def pairs(self) -> list[tuple[str, str]]:
        """Return the state as pairs of a query, without the fields that have their default.

        The page is called "sheet" there, because Gradio reserves "page".
        """
        pairs = [] if self.tab == "cases" else [("tab", self.tab)]
        pairs += [("case", self.case)] if self.case else []
        pairs += to_query(self.filters)
        pairs += [("sort", self.sort)] if self.sort else []
        pairs += [("order", "descending")] if self.descending else []
        pairs += [] if self.page is None else [("sheet", str(self.page + 1))]
        pairs += [("side", f"{run}|{stage}") for run, stage in self.sides]
        pairs += [("result", outcome or "any") for outcome in self.outcomes]
        pairs += [("question", self.question)] if self.question else []
        pairs += [("blind", "1")] if self.blind else []
        return pairs

    def query(self) -> str:
        """Return the state as a query string."""
        return urlencode(self.pairs())

    def link(self, **changes: Any) -> str:
        """Return the relative address of this view with some fields changed."""
        return "?" + replace(self, **changes).query()

    def narrowed(self, **filters: Any) -> str:
        """Return the address of the first page of the list under changed filters."""
        return self.link(filters=replace(self.filters, **filters), page=0)


def read_view(pairs: Iterable[tuple[str, str]]) -> View:
    """Read the view of an address. Unknown and invalid parts are ignored."""
    pairs = list(pairs)
    last = dict(pairs)
    sort = last.get("sort")
    sides = [value.partition("|") for name, value in pairs if name == "side"]
    outcomes = [value for name, value in pairs if name == "result"]
    return View(
        tab=last["tab"] if last.get("tab") in TABS else "cases",
        case=last.get("case", ""),
        filters=from_query(_without_blanks(pairs)),
        sort=sort if sort in COLUMNS and sort not in LONG else None,
        descending=last.get("order") == "descending",
        page=_read_page(last.get("sheet", "")),
        sides=tuple((run, stage) for run, _, stage in sides if run or stage)[:MAX_SIDES],
        outcomes=tuple(o if o in OUTCOMES else "" for o in outcomes)[:MAX_SIDES],
        question=last.get("question", ""),
        blind=last.get("blind") == "1",
    )


def _read_page(text: str) -> int | None:
    """Return the page, counted from 0; None for a text that is not a page number."""
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        return None
    return max(0, int(text) - 1)


def _without_blanks(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Remove empty values: a form sends its empty fields, which set no filter."""
    return [(name, value) for name, value in pairs if value.strip()]
