"""A DuckDB database in a temporary file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

_MEMORY = "300MB"


class Database:
    """A DuckDB database that is removed with this object. At most `_MEMORY` of it is in memory.

    Every query takes its own cursor, so threads may share a database.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="p2r-cases-")
        self._connection = duckdb.connect(
            config={
                "threads": min(4, os.cpu_count() or 1),
                "memory_limit": _MEMORY,
                "temp_directory": os.path.join(self._folder.name, "spilled"),
            }
        )
        file = os.path.join(self._folder.name, "cases.duckdb")
        self._connection.execute(f"ATTACH '{file}' AS store (RECOVERY_MODE NO_WAL_WRITES)")
        # DuckDB holds the file open. Without a name it disappears even if this process is killed.
        with contextlib.suppress(OSError):
            os.unlink(file)

    @contextlib.contextmanager
    def cursor(self, **relations: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a cursor. Its queries can read the Arrow tables by name."""
        cursor = self._connection.cursor()
        try:
            cursor.execute("USE store")
            for name, relation in relations.items():
                cursor.register(name, relation)
            yield cursor
        finally:
            cursor.close()

    def query(
        self, query: str, values: Sequence[Any] = (), matched: np.ndarray | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of a query. `matched`: the numbers in the relation of that name."""
        with self.cursor(**_relation(matched)) as cursor:
            cursor.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def numbers(
        self, query: str, values: Sequence[Any], matched: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the column `number` of a query."""
        with self.cursor(**_relation(matched)) as cursor:
            cursor.execute(query, values)
            return np.asarray(cursor.fetchnumpy()["number"], np.int32)

    def compress(self) -> None:
        """Compress the tables and write them to the temporary file."""
        with contextlib.suppress(duckdb.TransactionException):  # others are writing: next time
            self._connection.execute("CHECKPOINT store")


def _relation(matched: np.ndarray | None) -> dict[str, pa.Table]:
    return {} if matched is None else {"matched": pa.table({"number": matched})}
