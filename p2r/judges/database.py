"""The SQLite file with verdicts and spending. All runs and OS processes share it.

It uses write-ahead logging: readers never wait, writers wait for each other. A killed program loses
nothing that it wrote. A power cut may lose the last writes. Keep the file on a local disk, because
write-ahead logging does not work on a network file system.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from p2r.errors import StoreError
from p2r.files.disk_cache import cache_folder

SCHEMA = """
CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT PRIMARY KEY, judge TEXT NOT NULL, sufficient INTEGER NOT NULL,
    rationale TEXT NOT NULL, usage TEXT NOT NULL, cost REAL NOT NULL, made REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    run TEXT NOT NULL, judge TEXT NOT NULL, outcome TEXT NOT NULL, calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cost REAL NOT NULL, at_risk REAL NOT NULL, PRIMARY KEY (run, judge, outcome)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservations (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, judge TEXT NOT NULL, key TEXT UNIQUE,
    calls INTEGER NOT NULL, worst REAL NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    until REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS batches (
    token TEXT PRIMARY KEY, id TEXT, run TEXT NOT NULL, judge TEXT NOT NULL,
    reservation INTEGER NOT NULL, requests INTEGER NOT NULL, made REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, reply TEXT NOT NULL
) WITHOUT ROWID;
"""
# Seconds that a writer waits for other writers.
BUSY = 60.0
# SQLite allows 32,766 values in one query, older builds only 999.
SLICE = 900


def default_path() -> Path:
    """Return the path of `judgements.sqlite` in P2R_CACHE, or in the user's cache folder."""
    return cache_folder() / "judgements.sqlite"


class Database:
    """The database, with one connection per OS process; raises `StoreError`."""

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path).expanduser() if path else default_path()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        with self.transaction():
            pass

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Apply all changes of the block or none; no other OS process writes at the same time."""
        with self._lock, self._explained():
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query."""
        with self._lock, self._explained():
            return self._connect().execute(query, values).fetchall()

    def select(self, query: str, keys: Iterable[str]) -> list[sqlite3.Row]:
        """Return the rows of a query that ends in `IN`, for any number of keys."""
        keys = tuple(keys)
        found: list[sqlite3.Row] = []
        for start in range(0, len(keys), SLICE):
            part = keys[start : start + SLICE]
            found += self.rows(f"{query} ({','.join('?' * len(part))})", part)
        return found

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None and self._owner == os.getpid():
            return self._connection
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(SCHEMA)
        self._connection, self._owner = connection, os.getpid()
        return connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"the verdict cache {self.path} cannot be used ({error}): set P2R_CACHE or "
                "judging.cache to another place, or move the file away"
            ) from error
