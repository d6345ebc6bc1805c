"""The cache of verdicts: all runs share it, so that each judgement is paid once."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable

from p2r.judges.base import reused
from p2r.judges.database import Database
from p2r.records import Verdict


class VerdictCache:
    """Verdicts by key. A failure (no verdict) is not stored, so it is asked again."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def get(self, key: str) -> Verdict | None:
        """Return the verdict of a key, at no cost, or None."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """Return the known verdicts of these keys."""
        rows = self.database.select("SELECT * FROM verdicts WHERE key IN", keys)
        return {row["key"]: reused(_verdict(row)) for row in rows}

    def put(self, connection: sqlite3.Connection, key: str, verdict: Verdict) -> None:
        """Store a verdict, within the caller's transaction."""
        if verdict.sufficient is None:
            return
        connection.execute(
            "INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                verdict.judge,
                verdict.sufficient,
                # A model may write a lone surrogate, which UTF-8 cannot hold.
                verdict.rationale.encode("utf-8", "replace").decode(),
                json.dumps(verdict.usage),
                verdict.cost,
                time.time(),
            ),
        )


def _verdict(row: sqlite3.Row) -> Verdict:
    return Verdict(
        sufficient=bool(row["sufficient"]),
        rationale=row["rationale"],
        judge=row["judge"],
        usage=json.loads(row["usage"]),
        cost=row["cost"],
    )
