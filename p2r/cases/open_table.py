"""The table of some runs, kept up to date, with a cache of the last query results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from p2r.cases.answers import Answers
from p2r.cases.database import Database
from p2r.cases.files import CaseFault
from p2r.cases.selection import Filters, Passing, order, where
from p2r.cases.table import CaseTable
from p2r.cases.texts import normalise_query
from p2r.errors import StoreError

Kept = TypeVar("Kept")


class OpenTable:
    """The cases of run folders or Parquet files, as one table in written order.

    A Parquet file that was replaced is read again at the next query. `refresh` adds what a running
    stage wrote since. Threads may share this object. The results of the last queries are cached; a
    list takes 4 bytes per case.

    Raises `StoreError` for runs without readable cases, and for two copies of one run.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = list(dict.fromkeys(Path(path) for path in paths))
        if not self.paths:
            raise StoreError("no runs given: name at least one run folder")
        self._lock = threading.Lock()
        self._kept = Answers()
        self._current = CaseTable(self.paths)

    @property
    def faults(self) -> list[CaseFault]:
        """The parts of files that cannot be read, with the reasons. The other cases are shown."""
        return self._table().all_faults()

    def refresh(self) -> int:
        """Add what running stages wrote since. Return the number of added cases."""
        table = self._table()
        with self._lock:
            before = table.count
            if table.is_outdated(look_for_files=True):
                table = self._read_again()
            else:
                table.grow()
            return max(0, table.count - before)

    def close(self) -> None:
        """Stop the work in the background."""
        self._current.texts.close()

    def wait_for_texts(self, timeout: float | None = None) -> bool:
        """Wait until all texts are loaded, and return whether they are.

        Until then, searches read files.
        """
        return self._table().texts.wait(timeout)

    @property
    def version(self) -> int:
        """A number that changes with the cases."""
        return self._table().version

    def _select(
        self,
        table: CaseTable,
        filters: Filters,
        sort: str | None = None,
        descending: bool = False,
    ) -> np.ndarray:
        """Return the numbers of the cases of a list, in its order."""
        return self._derive(_list, filters, sort, descending, table=table)

    def _ask(self, filters: Filters, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query about the cases that pass; `{}` in it is its WHERE clause."""
        return self._derive(_query, filters, query)

    def _derive(
        self,
        query: Callable[..., Kept],
        filters: Filters,
        *more: Any,
        table: CaseTable | None = None,
    ) -> Kept:
        """Return what a function finds in the database, for the cases that pass.

        It is called with the database, the condition of the filters, and `more`.
        """
        table = table or self._table()

        def compute() -> Kept:
            return query(table.database, self._passing(table, filters), *more)

        return self._keep(table, (query, filters, *more), compute)

    def _passing(self, table: CaseTable, filters: Filters) -> Passing:
        """Return the condition of the filters. Their text is searched first."""
        query, fields = normalise_query(filters.text), filters.text_in
        if not query:
            return where(filters)
        key = ("text", query, frozenset(fields))
        return where(filters, self._keep(table, key, lambda: table.texts.search(query, fields)))

    def _keep(self, table: CaseTable, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """Return the answer to a question; it is computed once for each version of the table."""
        return self._kept.get((table.version, key), compute)

    def _table(self) -> CaseTable:
        """Return the table. It is read again if a Parquet file was replaced."""
        if self._current.is_outdated():
            with self._lock:
                if self._current.is_outdated():
                    self._read_again()
        return self._current

    def _read_again(self) -> CaseTable:
        former, self._current = self._current, CaseTable(self.paths)
        former.texts.close()
        return self._current


def _list(database: Database, passing: Passing, sort: str | None, descending: bool) -> np.ndarray:
    return database.numbers(
        f"SELECT number FROM cases {passing.clause} ORDER BY {order(sort, descending)}",
        passing.values,
        passing.matched,
    )


def _query(database: Database, passing: Passing, query: str) -> list[dict[str, Any]]:
    return database.query(query.format(passing.clause), passing.values, passing.matched)
