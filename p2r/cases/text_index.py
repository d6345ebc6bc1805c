"""The searched texts of the cases, as the DuckDB table `texts` (columns: `p2r.cases.texts`).

A thread loads the texts of large files. Until it is done, a search reads those files.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from p2r.cases.database import Database
from p2r.cases.files import CaseFile, read_groups
from p2r.cases.selection import FIELDS
from p2r.cases.texts import SOURCE_COLUMNS, scan, searched_texts

_FEW = 2048  # texts of a larger Parquet file are loaded by the thread
_LOADED_TOGETHER = 4096


class TextIndex:
    """The texts of the cases in a database, whose table `cases` has their ids."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closed = threading.Event()
        self._unloaded: list[tuple[CaseFile, int]] = []  # file, number of its first case
        self._loader: threading.Thread | None = None
        texts = ", ".join(f"{field} VARCHAR" for field in FIELDS)
        with database.cursor() as cursor:
            cursor.execute(f"CREATE TABLE texts (number INTEGER, {texts})")

    def add(self, some: Sequence[pa.Table]) -> None:
        """Insert texts of `searched_texts`."""
        if some:
            with self._database.cursor(piece=pa.concat_tables(some)) as cursor:
                cursor.execute("INSERT INTO texts FROM piece")

    def add_file(self, file: CaseFile, first: int, count: int) -> None:
        """Insert the texts of a Parquet file with `count` cases; `start` does this if it is large.

        `first` is the number of its first case.
        """
        self._unloaded.append((file, first))
        if count < _FEW:
            self._load(file, first)

    def start(self) -> None:
        """Start to load the large files in the background."""
        if self._unloaded:
            self._loader = threading.Thread(target=self._load_all, name="p2r-texts", daemon=True)
            self._loader.start()

    def close(self) -> None:
        """Stop the loading in the background."""
        self._closed.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all texts are loaded. Return whether they are."""
        if self._loader is not None:
            self._loader.join(timeout)
        return not self._unloaded

    def search(self, query: str, fields: Sequence[str]) -> np.ndarray:
        """Return the numbers of the cases that contain a query of `normalise_query` in the fields.

        Without fields, all fields and the id are searched.
        """
        searched = [field for field in FIELDS if field in fields] or FIELDS
        held = " OR ".join(f"contains({field}, $1)" for field in searched)
        sql = f"SELECT number FROM texts WHERE {held}"
        if not fields:
            sql += " UNION ALL SELECT number FROM cases WHERE contains(lower(id), $1)"
        # Read before the search: a file that is loaded meanwhile is searched twice, never skipped.
        unloaded = [*self._unloaded]
        found = [self._database.numbers(sql, [query])]
        found += [scan(texts, query, searched) for each in unloaded for texts in _texts_of(*each)]
        return np.unique(np.concatenate(found))

    def _load_all(self) -> None:
        """Load the texts of the large files, in a thread of low priority."""
        if sys.platform == "linux":  # elsewhere a thread and a process may have the same number
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        for file, first in [*self._unloaded]:
            try:
                self._load(file, first)
            except (OSError, ValueError, pa.ArrowException, duckdb.Error) as error:
                file.fault(f"the texts are not loaded, so searches are slow: {error}")
        self._database.compress()

    def _load(self, file: CaseFile, first: int) -> None:
        some: list[pa.Table] = []
        for texts in _texts_of(file, first):
            if self._closed.is_set():
                return
            some.append(texts)
            if sum(map(len, some)) >= _LOADED_TOGETHER:
                self.add(some)
                some = []
        self.add(some)
        self._unloaded.remove((file, first))
        pa.default_memory_pool().release_unused()


def _texts_of(file: CaseFile, first: int) -> Iterator[pa.Table]:
    # A copy of the file's record: a damaged row group is reported once, by the loading of `cases`.
    for row, batch in read_groups(CaseFile(file.path, file.run), SOURCE_COLUMNS):
        yield searched_texts(first + row, batch)
