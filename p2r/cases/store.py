"""Cases of one or several runs: filter, search, page, count, compare, also while a run is written.

A run keeps its cases in `cases.parquet` (columns: `records.ROW_TYPES`); `p2r.cases.files` writes it
and says what else is read. `CaseStore` keeps the short columns in a DuckDB table in memory and the
words of the texts in an index (`p2r.cases.text_index`); the texts stay in the files. Browsing
writes nothing into a run.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from p2r.cases.files import CASE_SCHEMA, FILE_NAME, Fault, case_file, write_cases
from p2r.cases.groups import group_rows, side_counts, side_rows
from p2r.cases.selection import (
    COLUMNS,
    EVERYTHING,
    FACETS,
    FAILURES,
    FIELDS,
    LISTED,
    LONG,
    OUTCOMES,
    RIGHT_ACCURACY,
    VERDICTS,
    Filters,
    name_column,
    order,
    where,
)
from p2r.cases.table import CaseTable
from p2r.errors import StoreError
from p2r.records import Case

__all__ = [
    "CASE_SCHEMA",
    "COLUMNS",
    "FACETS",
    "FAILURES",
    "FIELDS",
    "FILE_NAME",
    "LISTED",
    "OUTCOMES",
    "RIGHT_ACCURACY",
    "VERDICTS",
    "CaseStore",
    "Filters",
    "Neighbours",
    "StoreError",
    "case_file",
    "write_cases",
]

_MATCHED = "matched"


class Neighbours(NamedTuple):
    """Where a case stands in a list (from 0; None: not in it), of how many, between which."""

    position: int | None
    total: int
    previous: str | None
    following: str | None


class CaseStore:
    """Read access to the cases of run folders or Parquet files, as one table in written order.

    A Parquet file that was replaced is read anew by itself; what a running stage wrote since is
    taken in by `refresh`. Threads may share a store. Lists (`page`, `position`, `neighbours`,
    `count`) of one selection are computed once and kept; each is some 4 bytes per case.

    Raises `StoreError` for runs of which nothing can be read, and for copies of one run.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = list(dict.fromkeys(Path(path) for path in paths))
        if not self.paths:
            raise StoreError("no runs given: name at least one run folder")
        self._lock = threading.Lock()
        self._current = CaseTable(self.paths)

    # ---- what is open

    @property
    def files(self) -> list[Path]:
        """The files the cases are read from."""
        return [file.path for file in self._table().files]

    @property
    def faults(self) -> list[Fault]:
        """What cannot be read, and why; the rest is shown without it."""
        return self._table().all_faults()

    def refresh(self) -> int:
        """Take in what running stages wrote since; returns how many cases were added."""
        table = self._table()
        with self._lock:
            before = table.count
            if table.is_outdated(look_for_files=True):
                table = self._read_anew()
            else:
                table.grow()
            return max(0, table.count - before)

    def close(self) -> None:
        """End the work in the background and free the memory."""
        self._current.close()

    def wait_for_index(self, timeout: float | None = None) -> bool:
        """Wait until searches use the index (before, they read the files); False: not yet."""
        return self._table().wait_for_index(timeout)

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
        """Rows of a page; `sort` is one of `COLUMNS`, unknown values last; None: as written.

        Problems and answers are cut to some hundred characters (`selection.SHORTENED`).
        """
        table = self._table()
        for column in columns:
            name_column(column)
        chosen = self._select(table, filters, sort, descending)[offset : offset + limit]
        return table.rows(chosen, columns)

    def count(self, filters: Filters = EVERYTHING) -> int:
        """How many cases there are."""
        return len(self._select(self._table(), filters))

    def position(
        self, case_id: str, filters: Filters, sort: str | None = None, descending: bool = False
    ) -> int | None:
        """The place of a case (from 0) in the list, or None where the filters leave it out."""
        return self.neighbours(case_id, filters, sort, descending).position

    def neighbours(
        self,
        case_id: str,
        filters: Filters = EVERYTHING,
        sort: str | None = None,
        descending: bool = False,
    ) -> Neighbours:
        """The place of a case in a list, and the cases before and after it."""
        table = self._table()
        chosen = self._select(table, filters, sort, descending)
        number = table.number_of(case_id)
        places = np.flatnonzero(chosen == number) if number is not None else ()
        if not len(places):
            return Neighbours(None, len(chosen), None, None)
        place = int(places[0])
        beside = [at for at in (place - 1, place + 1) if 0 <= at < len(chosen)]
        ids = dict(
            zip(beside, (row["id"] for row in table.rows(chosen[beside], ["id"])), strict=True)
        )
        return Neighbours(place, len(chosen), ids.get(place - 1), ids.get(place + 1))

    # ---- counts

    def quadrants(self, filters: Filters = EVERYTHING) -> dict[tuple[str, str], int]:
        """Perception x answer: counts by (verdict, outcome), also the zeros.

        The verdict and the outcome of the filters are not applied: all cells stay visible.
        """
        lifted = replace(filters, verdict=None, outcome=None)
        rows = self._ask(
            lifted, "SELECT verdict, outcome, count(*) AS n FROM cases {} GROUP BY ALL"
        )
        found = {(row["verdict"], row["outcome"]): row["n"] for row in rows}
        return {cell: found.get(cell, 0) for cell in itertools.product(VERDICTS, OUTCOMES)}

    def failures(self, filters: Filters = EVERYTHING) -> dict[str, int]:
        """Counts by failure kind, also the zeros; the failure of the filters is not applied."""
        found = self._facet("failure", replace(filters, failure=()))
        return {kind: found.get(kind, 0) for kind in FAILURES}

    def facets(self, filters: Filters = EVERYTHING) -> dict[str, dict[Any, int]]:
        """For each of `FACETS` its values with counts, the most frequent first, under the other
        filters.
        """
        chosen = [name for name in FACETS if getattr(filters, name) != getattr(EVERYTHING, name)]
        others = {name: column for name, column in FACETS.items() if name not in chosen}
        found = self._facets(others, filters) | {
            name: self._facet(FACETS[name], replace(filters, **{name: getattr(EVERYTHING, name)}))
            for name in chosen
        }
        return {name: found[name] for name in FACETS}

    def _facets(self, columns: dict[str, str], filters: Filters) -> dict[str, dict[Any, int]]:
        """Several facets under the same filters, in one pass."""
        names = [name_column(column) for column in columns.values()]
        listed, sets = ", ".join(names), ", ".join(f"({name})" for name in names)
        rows = self._ask(
            filters,
            f"SELECT GROUPING({listed}) AS others, coalesce({listed}) AS value, count(*) AS n "
            f"FROM cases {{}} GROUP BY GROUPING SETS ({sets}) ORDER BY n DESC, value",
        )
        # A bit per column that a row is not grouped by, the first the highest.
        everything = 2 ** len(names) - 1
        marks = {everything ^ 2**place: name for place, name in enumerate(reversed(columns))}
        found: dict[str, dict[Any, int]] = {name: {} for name in columns}
        for row in rows:
            if row["value"] is not None:
                found[marks[row["others"]]][row["value"]] = row["n"]
        return found

    def values(self, column: str, filters: Filters = EVERYTHING) -> dict[Any, int]:
        """The distinct values of a column with their counts, the most frequent first."""
        return self._facet(column, filters)

    def span(self, column: str, filters: Filters = EVERYTHING) -> tuple[Any, Any]:
        """The lowest and the highest value of a column; None where there is none."""
        name = name_column(column)
        row = self._ask(filters, f"SELECT min({name}) AS low, max({name}) AS high FROM cases {{}}")
        return row[0]["low"], row[0]["high"]

    def stages(self) -> list[dict[str, Any]]:
        """The runs and their stages with counts and steps, in written order: what to compare."""
        return self._ask(
            EVERYTHING,
            'SELECT "trace.run" AS run, "trace.stage" AS stage, count(*) AS n, '
            'count(DISTINCT "question.id") AS questions, min("trace.step") AS first_step, '
            'max("trace.step") AS last_step FROM cases {} GROUP BY ALL ORDER BY min(number)',
        )

    def verdicts(self, case_ids: Sequence[str]) -> dict[str, tuple[str, bool | None]]:
        """Judge and word on the observation of those cases that were judged."""
        rows = self._table().query(
            'SELECT id, coalesce("verdict.judge", \'\') AS judge, "verdict.sufficient" AS word '
            "FROM cases WHERE judged AND id IN (SELECT unnest(?))",
            [list(case_ids)],
        )
        return {row["id"]: (row["judge"], row["word"]) for row in rows}

    # ---- cases

    def get(self, case_id: str) -> Case:
        """One case whole; raises `StoreError` where there is none of that id."""
        table = self._table()
        return table.read_case(self._number(table, case_id))

    def file_of(self, case_id: str) -> Path:
        """The file that holds a case; raises `StoreError` where none does."""
        table = self._table()
        return table.file_of(self._number(table, case_id)).path

    def run_of(self, case_id: str) -> Path:
        """The run folder that a case was read from."""
        table = self._table()
        return table.file_of(self._number(table, case_id)).run

    def cases(
        self, filters: Filters = EVERYTHING, sort: str | None = None, descending: bool = False
    ) -> Iterator[Case]:
        """All cases that pass, in the order of `page`, a few at a time; damaged ones are faults."""
        table = self._table()
        chosen = self._select(table, filters, sort, descending)
        # In another order than the written one, each piece is gathered from the whole file.
        return table.read_cases(chosen, few=sort is None)

    # ---- rollouts and comparisons

    def group(
        self, question_id: str, run: str, stage: str, step: int | None = None
    ) -> list[dict[str, Any]]:
        """The rollouts of a question at one step of one run, by their number."""
        names = ", ".join(map(name_column, LISTED))
        return self._table().query(
            f'SELECT {names} FROM cases WHERE "question.id" = ? AND "trace.run" = ? '
            'AND "trace.stage" = ? AND "trace.step" IS NOT DISTINCT FROM ? '
            'ORDER BY "trace.rollout"',
            [question_id, run, stage, step],
        )

    def groups(
        self,
        filters: Filters = EVERYTHING,
        sort: str = "spread",
        descending: bool = True,
        offset: int = 0,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Groups of rollouts with a case that passes: see `p2r.cases.groups.group_rows`."""
        table = self._table()
        key = ("groups", filters, sort, descending, offset, limit)
        passing = self._where(table, filters)
        return table.kept(key, lambda: group_rows(table, *passing, sort, descending, offset, limit))

    def compare(
        self,
        sides: Sequence[tuple[str, str]],
        filters: Filters = EVERYTHING,
        outcomes: Sequence[str | None] = (),
        offset: int = 0,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """The same questions in two or more (run, stage): see `p2r.cases.groups.side_rows`."""
        table = self._table()
        key = ("compare", tuple(sides), filters, tuple(outcomes), offset, limit)
        passing = self._where(table, filters)
        return table.kept(key, lambda: side_rows(table, sides, *passing, outcomes, offset, limit))

    def compare_counts(
        self, sides: Sequence[tuple[str, str]], filters: Filters = EVERYTHING
    ) -> dict[tuple[str, ...], int]:
        """Shared questions by the outcomes of the sides: {("right", "wrong"): 12, …}."""
        table = self._table()
        passing = self._where(table, filters)
        return table.kept(
            ("sides", tuple(sides), filters), lambda: side_counts(table, sides, *passing)
        )

    # ---- inside

    def _table(self) -> CaseTable:
        """The table, read anew where a file was replaced; the files of the old one are gone."""
        if self._current.is_outdated():
            with self._lock:
                if self._current.is_outdated():
                    self._read_anew()
        return self._current

    def _read_anew(self) -> CaseTable:
        former, self._current = self._current, CaseTable(self.paths)
        former.close()
        return self._current

    def _number(self, table: CaseTable, case_id: str) -> int:
        number = table.number_of(case_id)
        if number is None:
            raise StoreError(f"no case {case_id!r} in these runs")
        return number

    def _select(
        self,
        table: CaseTable,
        filters: Filters,
        sort: str | None = None,
        descending: bool = False,
    ) -> np.ndarray:
        """The numbers of the cases of a list, in its order."""

        def compute() -> np.ndarray:
            clause, values, found = self._where(table, filters)
            return table.numbers(
                f"SELECT number FROM cases {clause} ORDER BY {order(sort, descending)}",
                values,
                found,
            )

        return table.kept(("list", filters, sort, descending), compute)

    def _facet(self, column: str, filters: Filters) -> dict[Any, int]:
        if column in LONG:
            raise StoreError(f"the values of {column!r} are not counted: it is a text")
        name = name_column(column)
        rows = self._ask(
            filters,
            f"SELECT {name} AS value, count(*) AS n FROM cases {{}} GROUP BY value "
            "ORDER BY n DESC, value",
        )
        return {row["value"]: row["n"] for row in rows if row["value"] is not None}

    def _ask(self, filters: Filters, query: str) -> list[dict[str, Any]]:
        """The rows of a query about the cases that pass; `{}` in it is its WHERE clause."""
        table = self._table()

        def compute() -> list[dict[str, Any]]:
            clause, values, found = self._where(table, filters)
            return table.query(query.format(clause), values, found)

        return table.kept((query, filters), compute)

    def _where(
        self, table: CaseTable, filters: Filters
    ) -> tuple[str, list[Any], np.ndarray | None]:
        found = table.find(filters.text, filters.text_in)
        clause, values = where(filters, None if found is None else _MATCHED)
        return clause, values, found
