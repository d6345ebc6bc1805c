"""Reads and writes the query of an address, so that every state of the browser has a link.

A page is rendered from its address alone. The server keeps no state of a visitor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from p2r.cases.selection import (
    ANY,
    COLUMNS,
    FIELDS,
    LONG,
    OUTCOMES,
    Filters,
    from_query,
    to_query,
)

TABS = {
    "start": "Start",
    "cases": "Cases",
    "gallery": "Failures",
    "groups": "Groups",
    "compare": "Compare",
    "runs": "Runs",
    "stories": "Stories",
    "agreement": "Labels",
    "data": "Data",
    "ask": "Ask",
}
# Pages without an entry in the navigation.
HIDDEN_TABS = {"study": "Case study"}
# The texts that a search in blind mode looks at: the rationale tells the verdict.
BLIND_FIELDS = tuple(field for field in FIELDS if field != "rationale")
# These pages show verdicts, so blind mode does not show them.
VERDICT_TABS = ("start", "gallery", "groups", "compare", "stories", "study")
GROUP_ORDERS = {
    "": ("rewards differ most", "both_spreads", True),
    "collapsed": ("collapsed first", "both_spreads", False),
    "right": ("most answers right", "right", True),
    "wrong": ("fewest answers right", "right", False),
    "step": ("training step", "step", False),
}
LONGEST_WINDOW = 50  # steps
PAGE = 50
MAX_SIDES = 3
MAX_ITEMS = 60  # cases of a story
MAX_NOTE = 2000

Side = tuple[str, str]  # (run, stage)


@dataclass(frozen=True)
class View:
    """The state of the browser: a tab, the filters, order and page of its list, the open case.

    `page` None is the page that holds the open case. `sides` are the (run, stage) of a comparison,
    `outcomes` the required outcome of each side ("" for any), `question` the compared question.
    `blind` hides the verdict and the rewards until the visitor has labelled the case. `big` is the
    projector mode. `by` is the order of the groups (`GROUP_ORDERS`), `window` the smoothing of the
    curves in steps. A story has a `title` and `items`: (case, note).
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
    big: bool = False
    by: str = ""
    window: int = 1
    title: str = ""
    items: tuple[tuple[str, str], ...] = ()

    def pairs(self) -> list[tuple[str, str]]:
        """Return the state as pairs of a query, without the fields that have their default.

        The page is called "sheet" there, because Gradio reserves "page".
        """
        pairs = [] if self.tab in ("cases", "start") else [("tab", self.tab)]
        pairs += [("case", self.case)] if self.case else []
        # Blind mode has set these fields. The visitor did not choose them.
        is_blind = self.filters.text_in == BLIND_FIELDS
        pairs += to_query(replace(self.filters, text_in=()) if is_blind else self.filters)
        pairs += [("sort", self.sort)] if self.sort else []
        pairs += [("order", "descending")] if self.descending else []
        pairs += [] if self.page is None else [("sheet", str(self.page + 1))]
        pairs += [("side", f"{run}|{stage}") for run, stage in self.sides]
        pairs += [("result", outcome or "any") for outcome in self.outcomes]
        pairs += [("question", self.question)] if self.question else []
        pairs += [("blind", "1")] if self.blind else []
        pairs += [("by", self.by)] if self.by else []
        pairs += [("window", str(self.window))] if self.window != 1 else []
        pairs += [("title", self.title)] if self.title else []
        for case, note in self.items:
            pairs += [("story", case), ("note", note)]
        # An empty address is the start page.
        if pairs if self.tab == "start" else not pairs and self.tab == "cases":
            pairs.insert(0, ("tab", self.tab))
        return pairs + ([("big", "1")] if self.big else [])

    def query(self) -> str:
        """Return the state as a query string."""
        return urlencode(self.pairs())

    def link(self, **changes: Any) -> str:
        """Return the relative address of this view with some fields changed."""
        return "?" + replace(self, **changes).query()

    def narrowed(self, **filters: Any) -> str:
        """Return the address of the list under changed filters, which opens its first case."""
        return self.link(filters=replace(self.filters, **filters), page=0, case="")


def read_view(pairs: Iterable[tuple[str, str]]) -> View:
    """Read the view of an address. Unknown and invalid parts are ignored."""
    pairs = list(pairs)
    last = dict(pairs)
    sort = last.get("sort")
    sides = [value.partition("|") for name, value in pairs if name == "side"]
    outcomes = [value for name, value in pairs if name == "result"]
    blind = last.get("blind") == "1"
    filters = from_query(_without_blanks(pairs))
    window = last.get("window", "")
    plain = "cases" if last.keys() - {"big", "refresh", *_OF_GRADIO} else "start"
    return View(
        tab=last["tab"] if last.get("tab") in {**TABS, **HIDDEN_TABS} else plain,
        case=last.get("case", ""),
        filters=_without_verdicts(filters) if blind else filters,
        sort=sort
        if sort in COLUMNS and sort not in LONG and not (blind and sort in TELLING)
        else None,
        descending=last.get("order") == "descending",
        page=_read_page(last.get("sheet", "")),
        sides=tuple((run, stage) for run, _, stage in sides if run or stage)[:MAX_SIDES],
        outcomes=tuple(o if o in OUTCOMES else "" for o in outcomes)[:MAX_SIDES],
        question=last.get("question", ""),
        blind=blind,
        big=last.get("big") == "1",
        by=last["by"] if last.get("by") in GROUP_ORDERS else "",
        window=int(window) if window in map(str, range(1, LONGEST_WINDOW + 1)) else 1,
        title=last.get("title", "")[:MAX_NOTE],
        items=_read_items(pairs),
    )


# Columns and filters that reveal the verdict, also those with the parts of verdict and rewards.
TELLING = (
    "accuracy",
    "perception_reward",
    "reasoning_reward",
    "perception_advantage",
    "reasoning_advantage",
    "verdict",
    "judged",
    "outcome",
    "failure",
    "mismatch",
    "truth",
    "tags",
    *(name for name in COLUMNS if name.startswith(("verdict.", "perception.", "reasoning."))),
)
_OF_GRADIO = ("__theme", "__sign")


def _without_verdicts(filters: Filters) -> Filters:
    """Return the filters without those that reveal verdicts, for blind mode."""
    searched = tuple(field for field in filters.text_in if field in BLIND_FIELDS)
    return replace(
        filters,
        text_in=searched or (BLIND_FIELDS if filters.text else ()),
        verdict=None,
        outcome=None,
        truth=None,
        failure=(),
        mismatch=None,
        perception_reward=ANY,
        reasoning_reward=ANY,
        accuracy=ANY,
    )


def _read_items(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the cases of a story, each with the note that follows it.

    Of a story with more than `MAX_ITEMS` cases, returns the first `MAX_ITEMS` + 1, so that the
    caller can see that it is too long and refuse it.
    """
    items: list[tuple[str, str]] = []
    taken = False
    for name, value in pairs:
        if name == "story":
            taken = bool(value) and len(items) <= MAX_ITEMS
            if taken:
                items.append((value, ""))
        elif name == "note" and taken:
            items[-1] = (items[-1][0], value[:MAX_NOTE])
    return tuple(items)


def _read_page(text: str) -> int | None:
    """Return the page, counted from 0; None for a text that is not a page number."""
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        return None
    return max(0, int(text) - 1)


def _without_blanks(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Remove empty values: a form sends its empty fields, which set no filter."""
    return [(name, value) for name, value in pairs if value.strip()]
