"""Cases of one or several runs: filter, search, page, count, compare, also while a run is written.

A run keeps its cases in `cases.parquet` (columns: `records.ROW_TYPES`). `p2r.cases.files` writes it
and lists the other files that are read. `CaseStore` answers from DuckDB tables, which
`p2r.cases.table` loads and `p2r.cases.open_table` keeps up to date. Long texts stay in the files.
Browsing writes nothing into a run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from p2r.cases.files import write_cases
from p2r.cases.groups import group_place, group_rows, side_counts, side_rows
from p2r.cases.open_table import OpenTable
from p2r.cases.selection import (
    EVERYTHING,
    FACETS,
    FAILURES,
    LISTED,
    LONG,
    OUTCOMES,
    VERDICTS,
    Filters,
    count_facets,
    name_column,
    read_facets,
)
from p2r.cases.table import CaseTable
from p2r.errors import StoreError
from p2r.records import Case, Medium, Question

__all__ = ["CaseStore", "Filters", "Neighbours", "write_cases"]

MOST_ROLLOUTS = 256


class Neighbours(NamedTuple):
    """A case's position in a list (from 0; None: not in it), the list's length, both neighbours."""

    position: int | None
    total: int
    previous: str | None
    following: str | None


class CaseStore(OpenTable):
    """Read access to the cases of run folders or Parquet files: see `OpenTable`."""

    # ---- lists

    def page(
        self,
        filters: Filters = EVERYTHING,
        sort: str | None = None,
        descending: bool = False,
        offset: int = 0,
        limit: int = 50,
        columns: Sequence[str] = LISTED,
    ) -> list[dict[str, Any]]:
        """Return a page. `sort`: one of `COLUMNS`, unknown values last; None: written order.

        Problems and answers are cut (`selection.SHORTENED`).
        """
        table = self._table()
        for column in columns:
            name_column(column)
        chosen = self._select(table, filters, sort, descending)[offset : offset + limit]
        return table.rows(chosen, columns)

    def count(self, filters: Filters = EVERYTHING) -> int:
        """Return the number of cases."""
        return len(self._select(self._table(), filters))

    def neighbours(
        self,
        case_id: str,
        filters: Filters = EVERYTHING,
        sort: str | None = None,
        descending: bool = False,
    ) -> Neighbours:
        """Return the position of a case in a list, and the cases before and after it."""
        table = self._table()
        chosen = self._select(table, filters, sort, descending)
        number = table.number_of(case_id)
        places = np.flatnonzero(chosen == number) if number is not None else np.empty(0, int)
        if not len(places):
            return Neighbours(None, len(chosen), None, None)
        place = int(places[0])
        beside = [at for at in (place - 1, place + 1) if 0 <= at < len(chosen)]
        rows = table.rows(chosen[beside], ["id"])
        ids = {at: row["id"] for at, row in zip(beside, rows, strict=True)}
        return Neighbours(place, len(chosen), ids.get(place - 1), ids.get(place + 1))

    # ---- counts

    def quadrants(self, filters: Filters = EVERYTHING) -> dict[tuple[str, str], int]:
        """Count the cases by (verdict, outcome): perception x answer, zeros included.

        The filters of verdict and outcome are not applied, so that all cells stay visible.
        """
        lifted = replace(filters, verdict=None, outcome=None)
        rows = self._ask(
            lifted, "SELECT verdict, outcome, count(*) AS n FROM cases {} GROUP BY ALL"
        )
        found = {(row["verdict"], row["outcome"]): row["n"] for row in rows}
        return {cell: found.get(cell, 0) for cell in itertools.product(VERDICTS, OUTCOMES)}

    def failures(self, filters: Filters = EVERYTHING) -> dict[str, int]:
        """Count the cases by failure kind, zeros included. Their filter is not applied."""
        found = self.values("failure", replace(filters, failure=()))
        return {kind: found.get(kind, 0) for kind in FAILURES}

    def facets(self, filters: Filters = EVERYTHING) -> dict[str, dict[Any, int]]:
        """Count the values of each of `FACETS` under the other filters, most frequent first."""
        chosen = [name for name in FACETS if getattr(filters, name) != getattr(EVERYTHING, name)]
        others = {name: column for name, column in FACETS.items() if name not in chosen}
        found = read_facets(others, self._ask(filters, count_facets(others)))
        for name in chosen:
            lifted = replace(filters, **{name: getattr(EVERYTHING, name)})
            found[name] = self.values(FACETS[name], lifted)
        return {name: found[name] for name in FACETS}

    def values(self, column: str, filters: Filters = EVERYTHING) -> dict[Any, int]:
        """Count the distinct values of a column, the most frequent first."""
        if column in LONG:
            raise StoreError(f"the values of {column!r} cannot be counted: it is a text")
        rows = self._ask(
            filters,
            f"SELECT {name_column(column)} AS value, count(*) AS n FROM cases {{}} GROUP BY value "
            "ORDER BY n DESC, value",
        )
        return {row["value"]: row["n"] for row in rows if row["value"] is not None}

    def stages(self) -> list[dict[str, Any]]:
        """Return the runs and their stages with counts and steps, in written order."""
        return self._ask(
            EVERYTHING,
            'SELECT "trace.run" AS run, "trace.stage" AS stage, count(*) AS n, '
            'count(DISTINCT "question.id") AS questions, min("trace.step") AS first_step, '
            'max("trace.step") AS last_step FROM cases {} GROUP BY ALL ORDER BY min(number)',
        )

    def tally(self, filters: Filters = EVERYTHING) -> list[dict[str, Any]]:
        """Count the cases of each stage by verdict, outcome, failure kind and truth.

        The stages come in written order. All filters are applied.
        """
        return self._ask(
            filters,
            'SELECT "trace.run" AS run, "trace.stage" AS stage, verdict, outcome, failure, truth, '
            "count(*) AS n FROM cases {} GROUP BY ALL ORDER BY min(number)",
        )

    def untrue_by_step(self, folder: Path) -> list[dict[str, Any]]:
        """Return the share of a run's sufficient observations that are untrue, by stage and step.

        The cases in the files of the folder count, under whatever name of a run they have.
        Only observations whose truth is known count (`set_truths`). Each row has `stage`, `step`,
        `share` and `n`.
        """
        places = [place for place, file in enumerate(self._table().files) if file.run == folder]
        return self._ask(
            Filters(verdict="yes"),
            'SELECT "trace.stage" AS stage, "trace.step" AS step, count(*) AS n, '
            "avg(CASE WHEN truth = 'false' THEN 1.0 ELSE 0.0 END) AS share FROM cases {} "
            f"AND list_contains({places}::INTEGER[], file) AND truth <> 'unknown' "
            'AND "trace.step" IS NOT NULL GROUP BY ALL '
            "ORDER BY stage, step",
        )

    def set_truths(self, find: Callable[[Case], str], filters: Filters = EVERYTHING) -> int:
        """Fill in whether the observations of the chosen cases are true.

        `find` returns one of `TRUTHS`. Return the number of cases whose truth is known.
        """
        table = self._table()
        found = {case.id: find(case) for case in table.read_cases(self._select(table, filters))}
        truths = {case_id: word for case_id, word in found.items() if word != "unknown"}
        if truths:
            table.set_truths(truths)
        return len(truths)

    def verdicts(self, case_ids: Sequence[str]) -> dict[str, tuple[str, bool | None]]:
        """Return the judge and its verdict for each of the cases that was judged."""
        rows = self._table().database.query(
            'SELECT id, coalesce("verdict.judge", \'\') AS judge, "verdict.sufficient" AS word '
            "FROM cases WHERE judged AND id IN (SELECT unnest(?))",
            [list(case_ids)],
        )
        return {row["id"]: (row["judge"], row["word"]) for row in rows}

    # ---- cases

    def get(self, case_id: str) -> Case:
        """Return a complete case. Raises `StoreError` for an unknown id."""
        table = self._table()
        return table.read_case(_known_number(table, case_id))

    def media_of(self, case_id: str) -> list[Medium]:
        """Return the media of a case. This is cheaper than `get`, because it reads no texts."""
        table = self._table()
        columns = ("question.path", "question.data_type", "question.meta")
        row = table.rows(np.array([_known_number(table, case_id)]), columns)[0]
        path, data_type, meta = (row[name] for name in columns)
        fields = {"path": path or "", "meta": json.loads(meta or "{}")}
        return Question.model_construct(data_type=data_type or "video", **fields).media

    def file_of(self, case_id: str) -> Path:
        """Return the file that holds a case. Raises `StoreError` for an unknown id."""
        table = self._table()
        return table.file_of(_known_number(table, case_id)).path

    def run_of(self, case_id: str) -> Path:
        """Return the run folder that a case was read from."""
        table = self._table()
        return table.file_of(_known_number(table, case_id)).run

    def cases(
        self, filters: Filters = EVERYTHING, sort: str | None = None, descending: bool = False
    ) -> Iterator[Case]:
        """Yield all cases that pass, in the order of `page`; damaged ones become faults."""
        table = self._table()
        chosen = self._select(table, filters, sort, descending)
        # In another order than the written one, each piece is collected from the whole file.
        return table.read_cases(chosen, few=sort is None)

    # ---- rollouts and comparisons

    def group(
        self,
        question_id: str,
        run: str,
        stage: str,
        step: int | None = None,
        columns: Sequence[str] = LISTED,
    ) -> list[dict[str, Any]]:
        """Return the rollouts of a question at one step of one run, by their number."""
        steps = (None, None) if step is None else (step, step)
        filters = Filters(question_id=(question_id,), run=(run,), stage=(stage,), step=steps)
        rows = self.page(filters, "trace.rollout", limit=MOST_ROLLOUTS, columns=columns)
        return [row for row in rows if row["trace.step"] == step]

    def groups(
        self,
        filters: Filters = EVERYTHING,
        sort: str = "spread",
        descending: bool = True,
        offset: int = 0,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return groups of rollouts with a case that passes: see `p2r.cases.groups.group_rows`."""
        return self._derive(group_rows, filters, sort, descending, offset, limit)

    def group_place(
        self,
        case_id: str,
        filters: Filters = EVERYTHING,
        sort: str = "spread",
        descending: bool = True,
    ) -> int | None:
        """Return the place (from 0) of a case's group in the list of `groups`; None: not in it."""
        if self._table().number_of(case_id) is None:
            return None
        return self._derive(group_place, filters, sort, descending, case_id)

    def compare(
        self,
        sides: Sequence[tuple[str, str]],
        filters: Filters = EVERYTHING,
        outcomes: Sequence[str | None] = (),
        offset: int = 0,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return questions that several (run, stage) share: see `p2r.cases.groups.side_rows`."""
        return self._derive(side_rows, filters, tuple(sides), tuple(outcomes), offset, limit)

    def compare_counts(
        self, sides: Sequence[tuple[str, str]], filters: Filters = EVERYTHING
    ) -> dict[tuple[str, ...], int]:
        """Count shared questions by the outcomes of the sides: {("right", "wrong"): 12, …}."""
        return self._derive(side_counts, filters, tuple(sides))


def _known_number(table: CaseTable, case_id: str) -> int:
    number = table.number_of(case_id)
    if number is None:
        raise StoreError(f"no case {case_id!r} in these runs")
    return number
