"""Claude by Message Batches: half the price, an answer within a day.

No request is sent twice, even if p2r is killed. Before a batch is sent, its token is written to the
shared database. Each request's `custom_id` is this token and the key of the judgement. If a token
has no batch id (p2r was killed, or the connection broke, during the sending), the next start looks
for the batch in the server's list and recognises it by its custom ids. A batch that the server
does not find stays in the database until its lease is over (see `p2r.judges.batch_server`).
Replies are stored unchanged. They are read when their observation is judged again.

Source: Message Batches API (limits, result types, retention), platform.claude.com.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import anthropic

from p2r.errors import JudgeError
from p2r.judges.base import BaseJudge
from p2r.judges.batch_server import LEASE, BatchServer, count_requests
from p2r.judges.cache import VerdictCache
from p2r.judges.kinds.claude import ClaudeJudge, read_message
from p2r.judges.ledger import Ledger
from p2r.judges.prices import Usage
from p2r.judges.prompt import build_judge_prompt
from p2r.judges.remote import Reply, outcome_of
from p2r.records import Question, Verdict

log = logging.getLogger(__name__)

MAX_BYTES = 200 * 2**20
# How often a request is sent if it expires or the server fails.
ROUNDS = 3
AGAIN = {"expired", "api_error", "overloaded_error", "rate_limit_error", "timeout_error"}


@dataclass(frozen=True)
class Batch:
    """A batch that was sent or is being sent; `id` is None until the server's answer is stored."""

    token: str
    id: str | None
    reservation: int
    requests: int
    made: float


class BatchJudge(BaseJudge):
    """Asks Claude in batches, with the cache and the ledger of the online judge.

    `submit` sends the judgements without a verdict, `collect` waits for all batches, and `judge`
    does both. After a kill, the same calls first find and collect the batches that were sent. This
    OS process does not send a cancelled batch again. `grace`: after this many seconds, a batch
    that the server's list does not show counts as never received.
    """

    def __init__(
        self, judge: ClaudeJudge, size: int = 10_000, poll: float = 60.0, grace: float = 60.0
    ) -> None:
        if judge.cache is None or judge.ledger is None:
            raise JudgeError("a batch judge needs a cache: make it with make_judge")
        self.name = judge.name
        self.inner = judge
        self.cache: VerdictCache = judge.cache
        self.ledger: Ledger = judge.ledger
        self.database = self.cache.database
        self.size = size
        self.grace = grace
        self.server = BatchServer(judge.client, poll)
        self._collected = False
        # Of keys: the token of the batch in progress; how often it was sent; why it has no verdict.
        self._pending: dict[str, str] = {}
        self._rounds: dict[str, int] = {}
        self._failed: dict[str, str] = {}

    async def ask(self, question: Question, observation: str) -> Verdict:
        """Return the verdict on one observation, from a batch of one request."""
        return (await self.ask_all([question], [observation]))[0]

    async def ask_all(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> list[Verdict]:
        """Send, wait, send expired requests again, and return the verdicts in order."""
        while await self.submit(questions, observations):
            await self.collect()
        keys, verdicts = self._resolve(questions, observations)
        for key in set(keys) - set(verdicts):
            verdicts[key] = self.inner.unknown(self._failed.get(key, "no result in its batches"))
        return [verdicts[key] for key in keys]

    async def submit(self, questions: Sequence[Question], observations: Sequence[str]) -> int:
        """Send the judgements that have no verdict; return the number of requests.

        If the budget is too small for the next request, wait for the batches in progress. Raises
        `JudgeError` if it is still too small.
        """
        if not self._collected:  # batches from before a restart or an outage
            await self.collect()
        pairs = list(zip(questions, observations, strict=True))
        keys = [self.inner.key(*pair) for pair in pairs]
        answered = {*self.cache.get_many(set(keys)), *self._replies(keys)}
        missing = {
            key: pair
            for key, pair in zip(keys, pairs, strict=True)
            if key not in answered
            and key not in self._failed
            and key not in self._pending
            and self._rounds.get(key, 0) < ROUNDS
        }
        sent = 0
        template = self.inner.template
        waiting = [(key, build_judge_prompt(*pair, template)) for key, pair in missing.items()]
        while waiting:
            part, worst = self._take(waiting)
            if not part:
                await self.collect()
                part, worst = self._take(waiting)
            if not part:
                raise self.ledger.reached(self.inner.worst(waiting[0][1], batch=True))
            waiting = waiting[len(part) :]
            await self._send(part, worst)
            sent += len(part)
        return sent

    async def collect(self) -> None:
        """Wait for every batch of this run and judge, and store its replies.

        Raises `JudgeError` at the end if the server does not find a batch. The batch stays in the
        database, so its requests are not sent again.
        """
        self._collected = False
        missing: LookupError | None = None
        for batch in self._open_batches():
            try:
                found = batch if batch.id else await self._find(batch)
                if found is not None:
                    await self._keep(found)
            except LookupError as error:
                missing = error
        if missing is not None:
            raise JudgeError(str(missing)) from missing
        self._collected = True

    # ---- sending

    def _take(self, waiting: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], float]:
        """Return the first requests that fit into a batch and the budget, and their worst cost."""
        room, size, worst = self.ledger.room(), 0, 0.0
        part: list[tuple[str, str]] = []
        for key, prompt in waiting[: self.size]:
            cost = self.inner.worst(prompt, batch=True)
            size += 2 * len(prompt.encode()) + 2 * len(self.inner.guidance.encode()) + 1000
            if worst + cost > room or (size > MAX_BYTES and part):
                break
            worst += cost
            part.append((key, prompt))
        return part, worst

    async def _send(self, part: Sequence[tuple[str, str]], worst: float) -> None:
        token = secrets.token_hex(4)
        requests = [
            {"custom_id": f"{token}-{key.rpartition('/')[2]}", "params": self.inner.params(prompt)}
            for key, prompt in part
        ]
        made = time.time()
        with self.database.transaction() as books:
            held = self.ledger.reserve_batch(books, self.name, len(part), worst, LEASE)
            books.execute(
                "INSERT INTO batches VALUES (?, NULL, ?, ?, ?, ?, ?)",
                (token, self.ledger.run, self._judge, held, len(part), made),
            )
        keys = [key for key, _ in part]
        self._pending |= dict.fromkeys(keys, token)
        for key in keys:
            self._rounds[key] = self._rounds.get(key, 0) + 1
        batch = Batch(token, None, held, len(part), made)
        for attempt in range(1 + self.inner.limits.retries):
            try:
                sent = await self.server.create(requests=requests)
                return self._sent(batch, sent.id)
            except anthropic.APIStatusError as error:
                reason = f"HTTP {error.status_code}: {type(error).__name__}"
                if error.status_code in (408, 409, 429) and attempt < self.inner.limits.retries:
                    await asyncio.sleep(_pause(attempt, error.response, self.server.poll))
                    continue
                if error.status_code < 500:
                    return self._forget(batch, f"the batch was refused: {reason}", keys)
            except (anthropic.AnthropicError, ValueError, AttributeError) as error:
                reason = f"no connection: {type(error).__name__}"
            # The batch may have arrived in spite of the error.
            if await self._find(batch, forget=False) is not None:
                return None
            await asyncio.sleep(_pause(attempt, None, self.server.poll))
        return self._forget(batch, f"the batch could not be sent: {reason}", keys)

    def _sent(self, batch: Batch, batch_id: str) -> None:
        log.info("batch %s: %d requests sent", batch_id, batch.requests)
        with self.database.transaction() as books:
            books.execute("UPDATE batches SET id = ? WHERE token = ?", (batch_id, batch.token))

    def _forget(self, batch: Batch, reason: str, keys: Sequence[str] = ()) -> None:
        """Remove a batch that the server does not have; it cost nothing."""
        self._done(batch)
        self._failed |= dict.fromkeys(keys, reason)
        with self.database.transaction() as books:
            books.execute("DELETE FROM batches WHERE token = ?", (batch.token,))
            outcomes = {reason: (batch.requests, Usage(), 0.0)}
            self.ledger.settle(books, batch.reservation, self.name, outcomes)

    # ---- finding and waiting

    async def _find(self, batch: Batch, forget: bool = True) -> Batch | None:
        """Return the batch with its id, from the server's list; None if it never arrived."""
        failures = 0
        while True:
            late = time.time() - batch.made > self.grace
            try:
                async for listed in self._listed(batch):
                    if await self._is(listed.id, batch):
                        self._sent(batch, listed.id)
                        return replace(batch, id=listed.id)
            except anthropic.AnthropicError as error:
                failures += 1
                self.server.note_failure(failures, error)
                late = False
            if late:
                if forget:
                    self._forget(batch, "the batch was never received")
                return None
            await asyncio.sleep(min(self.server.poll, self.grace))

    async def _listed(self, batch: Batch) -> AsyncIterator[Any]:
        """Yield new, unknown batches on the server with the same number of requests."""
        rows = self.database.rows("SELECT id FROM batches WHERE id NOT NULL")
        known = {row["id"] for row in rows}
        async for listed in self.server.listed_since(batch.made):
            if listed.id not in known and count_requests(listed) == batch.requests:
                yield listed

    async def _is(self, batch_id: str, batch: Batch) -> bool:
        """Return whether the custom ids of a batch have this token; wait until the batch ends."""
        results = await self.server.results(batch_id, batch.made) or []
        return any(result.custom_id.startswith(f"{batch.token}-") for result in results[:1])

    # ---- keeping

    async def _keep(self, batch: Batch) -> None:
        """Store the replies of an ended batch and book its cost, in one transaction."""
        replies: dict[str, Reply] = {}
        failures: dict[str, str] = {}
        results = await self.server.results(str(batch.id), batch.made)
        if results is None:
            return self._lose(batch)
        for result in results:
            token, _, short = result.custom_id.partition("-")
            if token != batch.token:
                continue
            key = self.inner.identity_key(short)
            kind = result.result.type
            if kind == "succeeded":
                replies[key] = read_message(result.result.message)
            elif kind == "errored":
                error = getattr(result.result.error, "error", result.result.error)
                failures[key] = str(getattr(error, "type", "error"))[:40]
            else:
                failures[key] = kind
        # Only for the books: the observations are not at hand here.
        ends = [(outcome_of(r, self.inner.read(r, "")), r) for r in replies.values()]
        ends += [(f"batch: {reason}", Reply()) for reason in failures.values()]
        outcomes: dict[str, tuple[int, Usage, float]] = {}
        for end, reply in ends:
            calls, usage, cost = outcomes.get(end, (0, Usage(), 0.0))
            outcomes[end] = (calls + 1, usage + reply.usage, cost + self._cost(reply))
        with self.database.transaction() as books:
            books.executemany(
                "INSERT OR REPLACE INTO replies VALUES (?, ?)",
                [(key, json.dumps(asdict(reply))) for key, reply in replies.items()],
            )
            books.execute("DELETE FROM batches WHERE token = ?", (batch.token,))
            self.ledger.settle(books, batch.reservation, self.name, outcomes)
        self._done(batch)
        for key, reason in failures.items():
            if reason not in AGAIN or self._rounds.get(key, 0) >= ROUNDS:
                self._failed[key] = f"the request in the batch ended as: {reason}"

    def _lose(self, batch: Batch) -> None:
        """Book the worst cost of a batch whose results are gone; its requests are sent again."""
        log.warning("batch %s: its results are gone from the server", batch.id)
        with self.database.transaction() as books:
            held = books.execute(
                "SELECT worst FROM reservations WHERE id = ?", (batch.reservation,)
            ).fetchone()
            books.execute("DELETE FROM batches WHERE token = ?", (batch.token,))
            if held is not None:  # else the ledger has booked it, because its lease is over
                outcomes = {"batch: gone with its results": (batch.requests, Usage(), 0.0)}
                self.ledger.settle(books, batch.reservation, self.name, outcomes, held["worst"])
        self._done(batch)

    def _done(self, batch: Batch) -> None:
        self._pending = {k: token for k, token in self._pending.items() if token != batch.token}

    def _resolve(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> tuple[list[str], dict[str, Verdict]]:
        """Return the keys in order and the known verdicts, from the cache and from new replies."""
        keys = [self.inner.key(q, o) for q, o in zip(questions, observations, strict=True)]
        known = self.cache.get_many(set(keys))
        replies = self._replies(keys)
        new = {
            key: self._verdict(replies[key], observation)
            for key, observation in zip(keys, observations, strict=True)
            if key in replies and key not in known
        }
        if new:
            with self.database.transaction() as books:
                for key, verdict in new.items():
                    self.cache.put(books, key, verdict)
                    books.execute("DELETE FROM replies WHERE key = ?", (key,))
            self._failed |= {k: v.rationale for k, v in new.items() if v.sufficient is None}
        return keys, known | new

    def _replies(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Return the unread replies of these keys."""
        found = self.database.select("SELECT key, reply FROM replies WHERE key IN", set(keys))
        return {row["key"]: _reply(row["reply"]) for row in found}

    def _verdict(self, reply: Reply, observation: str) -> Verdict:
        verdict = self.inner.read(reply, observation)
        usage = {**verdict.usage, "batch": True}
        return verdict.model_copy(update={"usage": usage, "cost": self._cost(reply)})

    def _cost(self, reply: Reply) -> float:
        return self.inner.price.cost(reply.usage, batch=True) if self.inner.price else 0.0

    @property
    def _judge(self) -> str:
        return self.inner.identity_key("")

    def _open_batches(self) -> list[Batch]:
        rows = self.database.rows(
            "SELECT token, id, reservation, requests, made FROM batches "
            "WHERE run = ? AND judge = ? ORDER BY made",
            (self.ledger.run, self._judge),
        )
        return [Batch(*row) for row in rows]


def _reply(text: str) -> Reply:
    fields = json.loads(text)
    return Reply(**{**fields, "usage": Usage(**fields["usage"])})


def _pause(attempt: int, response: Any, longest: float) -> float:
    """Return the seconds before the next attempt: the server's wish, at most `longest`."""
    asked = response.headers.get("retry-after", "") if response is not None else ""
    seconds = float(asked) if asked.replace(".", "", 1).isdigit() else 2.0**attempt
    return min(seconds, longest)
