"""The ledger of judging: calls, tokens, money, and a budget that is never exceeded.

Before a call is sent, what it can cost at most is reserved; when it is answered, the reservation
gives way to what it did cost. A call whose answer was lost (a dropped connection, a killed process)
may have been charged for: its worst cost stays in the books as `at_risk`, and counts against the
budget. (Attempts that the client itself repeats after a time-out are one call here: only its last
one is seen.)
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import time
from dataclasses import dataclass

from p2r.errors import JudgeError
from p2r.judges.database import Database
from p2r.judges.prices import Usage

POLL = 0.1
HOST = socket.gethostname()
# A reservation that no process holds: a batch goes on without us.
NOBODY = 0


@dataclass(frozen=True)
class Spending:
    """What a run spent on one judge, by outcome ("verdict", or why there is none)."""

    judge: str
    outcome: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    at_risk: float


class Ledger:
    """The books of one run (its `run` is any name that is its alone), kept in the shared file."""

    def __init__(self, database: Database, run: str = "", budget: float | None = None) -> None:
        self.database = database
        self.run = run
        self.budget = budget
        self._turn = asyncio.Lock()

    async def reserve(self, judge: str, key: str, worst: float, lease: float) -> int | None:
        """Set the worst cost of a call aside, waiting for calls in flight where there is no room.

        None where the verdict has just come in: another process made the same call, which was
        waited for. `lease`: seconds after which the call has certainly ended. Raises
        `JudgeError`.
        """
        async with self._turn:
            while True:
                with self.database.transaction() as books:
                    self._sweep(books)
                    if _has(books, "verdicts", key):
                        return None
                    if not _has(books, "reservations", key):
                        if self._fits(books, worst):
                            return self._hold(books, judge, key, worst, lease)
                        if not self._open(books) or not self._could_fit(books, worst):
                            raise self._reached(books, worst)
                await asyncio.sleep(POLL)

    def reserve_batch(
        self, books: sqlite3.Connection, judge: str, calls: int, worst: float, lease: float
    ) -> int:
        """Set the worst cost of a batch aside, within the caller's transaction."""
        self._sweep(books)
        if not self._fits(books, worst):
            raise self._reached(books, worst)
        return self._hold(books, judge, None, worst, lease, calls=calls, pid=NOBODY)

    def reached(self, worst: float) -> JudgeError:
        """What to raise where the budget has no room for a call."""
        with self.database.transaction() as books:
            return self._reached(books, worst)

    def room(self) -> float:
        """US dollars that may still be reserved; infinite without a budget."""
        if self.budget is None:
            return float("inf")
        with self.database.transaction() as books:
            self._sweep(books)
            return self.budget - self._spent(books) - self._open(books)

    def settle(
        self,
        books: sqlite3.Connection,
        reservation: int,
        judge: str,
        outcomes: dict[str, tuple[int, Usage, float]],
        at_risk: float = 0.0,
    ) -> None:
        """Replace a reservation by what came of it, within the caller's transaction.

        `outcomes`: calls, tokens and dollars by outcome; `at_risk` goes with the first of them.
        """
        books.execute("DELETE FROM reservations WHERE id = ?", (reservation,))
        for outcome, (calls, usage, cost) in outcomes.items():
            row = (calls, usage.input, usage.output, cost, at_risk)
            self._book(books, self.run, judge, outcome, row)
            at_risk = 0.0

    def spent(self) -> float:
        """US dollars of this run so far, with what may have been charged besides."""
        with self.database.transaction() as books:
            self._sweep(books)
            return self._spent(books)

    def summary(self) -> list[Spending]:
        """What this run spent, a row per judge and outcome."""
        with self.database.transaction() as books:
            self._sweep(books)
        rows = self.database.rows(
            "SELECT judge, outcome, calls, input_tokens, output_tokens, cost, at_risk "
            "FROM spending WHERE run = ? ORDER BY judge, outcome",
            (self.run,),
        )
        return [Spending(*row) for row in rows]

    def mean_output(self, judge: str) -> float | None:
        """Output tokens of a call on the mean of all runs; None before the first verdict."""
        row = self.database.rows(
            "SELECT sum(output_tokens), sum(calls) FROM spending "
            "WHERE judge = ? AND outcome = 'verdict'",
            (judge,),
        )[0]
        return row[0] / row[1] if row[1] else None

    # ---- within a transaction

    def _fits(self, books: sqlite3.Connection, worst: float) -> bool:
        if self.budget is None:
            return True
        return self._spent(books) + self._open(books) + worst <= self.budget

    def _could_fit(self, books: sqlite3.Connection, worst: float) -> bool:
        return self.budget is None or self._spent(books) + worst <= self.budget

    def _spent(self, books: sqlite3.Connection) -> float:
        query = "SELECT coalesce(sum(cost + at_risk), 0) FROM spending WHERE run = ?"
        return books.execute(query, (self.run,)).fetchone()[0]

    def _open(self, books: sqlite3.Connection) -> float:
        query = "SELECT coalesce(sum(worst), 0) FROM reservations WHERE run = ?"
        return books.execute(query, (self.run,)).fetchone()[0]

    def _hold(
        self,
        books: sqlite3.Connection,
        judge: str,
        key: str | None,
        worst: float,
        lease: float,
        calls: int = 1,
        pid: int | None = None,
    ) -> int:
        until = time.time() + lease
        row = (self.run, judge, key, calls, worst, HOST, os.getpid() if pid is None else pid, until)
        return books.execute(
            "INSERT INTO reservations (run, judge, key, calls, worst, host, pid, until) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        ).lastrowid

    def _sweep(self, books: sqlite3.Connection) -> None:
        """Book what processes that are gone had reserved: they may have been charged for it."""
        for row in books.execute("SELECT * FROM reservations").fetchall():
            if not _is_gone(row):
                continue
            books.execute("DELETE FROM reservations WHERE id = ?", (row["id"],))
            counts = (row["calls"], 0, 0, 0.0, row["worst"])
            self._book(books, row["run"], row["judge"], "lost with its process", counts)

    def _book(
        self, books: sqlite3.Connection, run: str, judge: str, outcome: str, counts: tuple
    ) -> None:
        books.execute(
            "INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "calls = calls + excluded.calls, input_tokens = input_tokens + excluded.input_tokens, "
            "output_tokens = output_tokens + excluded.output_tokens, "
            "cost = cost + excluded.cost, at_risk = at_risk + excluded.at_risk",
            (run, judge, outcome, *counts),
        )

    def _reached(self, books: sqlite3.Connection, worst: float) -> JudgeError:
        return JudgeError(
            f"the judge's budget of ${self.budget:g} is reached: ${self._spent(books):.4f} of it "
            f"is spent, and the next call may cost ${worst:.4f}; verdicts so far are kept, give a "
            "larger budget (--budget, judging.budget) and the same command goes on"
        )


def _has(books: sqlite3.Connection, table: str, key: str) -> bool:
    return books.execute(f"SELECT 1 FROM {table} WHERE key = ?", (key,)).fetchone() is not None


def _is_gone(reservation: sqlite3.Row) -> bool:
    if reservation["until"] < time.time():
        return True
    if reservation["pid"] == NOBODY or reservation["host"] != HOST:
        return False
    try:
        os.kill(reservation["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
