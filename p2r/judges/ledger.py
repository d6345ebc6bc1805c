"""The ledger of judging: calls, tokens, money, and a budget that is never exceeded.

Before a call is sent, its highest possible cost is reserved. The answer replaces the reservation by
the real cost. If the answer is lost (the connection dropped, or p2r was killed), the call may have
been charged: its highest cost stays in the ledger as `at_risk` and counts against the budget.
Retries inside the client count as one call, because only the last attempt is visible.
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
# The owner of a batch's reservation: a batch continues without any program of ours.
NOBODY = 0


@dataclass(frozen=True)
class Spending:
    """A run's spending on one judge, by outcome: "verdict", or the reason why there is none."""

    judge: str
    outcome: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    at_risk: float


class Ledger:
    """The ledger of one run in the shared database; `run` is a unique name."""

    def __init__(self, database: Database, run: str = "", budget: float | None = None) -> None:
        self.database = database
        self.run = run
        self.budget = budget
        self._turn = asyncio.Lock()

    async def reserve(self, judge: str, key: str, worst: float, lease: float) -> int | None:
        """Reserve the highest cost of a call; if the budget is full, wait for calls in progress.

        The call does not wait for an open batch, which can take days.
        Return None if another OS process made the same call in the meantime, so that the verdict is
        in the cache. `lease`: seconds after which the call has ended for certain. Raises
        `JudgeError`.
        """
        while True:
            async with self._turn:  # calls get room in the budget in their order
                while True:
                    with self.database.transaction() as books:
                        self._sweep(books)
                        if _has(books, "verdicts", key):
                            return None
                        if _has(books, "reservations", key):
                            break
                        if self._fits(books, worst):
                            return self._hold(books, judge, key, worst, lease)
                        if not self._may_fit_soon(books, worst):
                            raise self._reached(books, worst)
                    await asyncio.sleep(POLL)
            await asyncio.sleep(POLL)  # another OS process makes this call: let it work

    def reserve_batch(
        self, books: sqlite3.Connection, judge: str, calls: int, worst: float, lease: float
    ) -> int:
        """Reserve the highest cost of a batch, within the caller's transaction."""
        self._sweep(books)
        if not self._fits(books, worst):
            raise self._reached(books, worst)
        return self._hold(books, judge, None, worst, lease, calls=calls, pid=NOBODY)

    def reached(self, worst: float) -> JudgeError:
        """Return the error for a call that does not fit into the budget."""
        with self.database.transaction() as books:
            return self._reached(books, worst)

    def room(self) -> float:
        """Return the US dollars that can still be reserved; infinity without a budget."""
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
        """Replace a reservation by its outcomes, within the caller's transaction.

        `outcomes`: calls, tokens and dollars by outcome. `at_risk` is added to the first outcome.
        """
        books.execute("DELETE FROM reservations WHERE id = ?", (reservation,))
        for outcome, (calls, usage, cost) in outcomes.items():
            row = (calls, usage.input, usage.output, cost, at_risk)
            self._book(books, self.run, judge, outcome, row)
            at_risk = 0.0

    def spent(self) -> float:
        """Return the US dollars that this run spent, including those at risk."""
        with self.database.transaction() as books:
            self._sweep(books)
            return self._spent(books)

    def summary(self) -> list[Spending]:
        """Return the spending of this run, one row per judge and outcome."""
        with self.database.transaction() as books:
            self._sweep(books)
        rows = self.database.rows(
            "SELECT judge, outcome, calls, input_tokens, output_tokens, cost, at_risk "
            "FROM spending WHERE run = ? ORDER BY judge, outcome",
            (self.run,),
        )
        return [Spending(*row) for row in rows]

    def mean_output(self, judge: str) -> float | None:
        """Return the mean output tokens of a call over all runs; None before the first verdict."""
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

    def _may_fit_soon(self, books: sqlite3.Connection, worst: float) -> bool:
        """Return whether a call fits if the calls in progress turn out to cost nothing."""
        batches = self._open_batches(books)
        if self.budget is None or self._open(books) <= batches:
            return self.budget is None
        return self._spent(books) + batches + worst <= self.budget

    def _open_batches(self, books: sqlite3.Connection) -> float:
        query = "SELECT coalesce(sum(worst), 0) FROM reservations WHERE run = ? AND pid = ?"
        return books.execute(query, (self.run, NOBODY)).fetchone()[0]

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
        added = books.execute(
            "INSERT INTO reservations (run, judge, key, calls, worst, host, pid, until) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        return added.lastrowid or 0

    def _sweep(self, books: sqlite3.Connection) -> None:
        """Book the reservations of OS processes that ended: their calls may have been charged."""
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
        held = ""
        if batches := self._open_batches(books):
            query = "SELECT coalesce(id, token) FROM batches WHERE run = ? ORDER BY made"
            names = [row[0] for row in books.execute(query, (self.run,)).fetchall()]
            named = f"open batch {', '.join(names)}" if names else "open batch"
            held = f"${batches:.4f} is reserved for the {named}, "
        return JudgeError(
            f"the judge's budget of ${self.budget:g} is reached: ${self._spent(books):.4f} is "
            f"spent, {held}and the next call may cost ${worst:.4f}; all verdicts are stored: set a "
            "larger budget (--budget, judging.budget), and start the same command again to continue"
        )


def _has(books: sqlite3.Connection, table: str, key: str) -> bool:
    return books.execute(f"SELECT 1 FROM {table} WHERE key = ?", (key,)).fetchone() is not None


def _is_gone(reservation: sqlite3.Row) -> bool:
    if reservation["until"] < time.time():
        return True
    if reservation["pid"] == NOBODY or reservation["host"] != HOST:
        return False
    if os.name == "nt":  # on Windows, signal 0 is Ctrl-C
        return False
    try:
        os.kill(reservation["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
