"""Claude by Message Batches: half the price, an answer within a day.

Nothing is sent twice, whatever is killed when. Before a batch is sent, its token is in the shared
file; each request's `custom_id` is that token and the judgement's key. A process that finds a token
without a batch id (it was killed, or the connection broke, while sending) looks for the batch in
the server's listing and knows it by its custom ids. Replies are stored as they came and read when
the observation they belong to is at hand again.

Sources: Message Batches API (limits, result types, retention): platform.claude.com.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import anthropic

from p2r.errors import JudgeError
from p2r.judges.base import BaseJudge
from p2r.judges.cache import VerdictCache
from p2r.judges.kinds.claude import ClaudeJudge, read_message
from p2r.judges.ledger import Ledger
from p2r.judges.prices import Usage
from p2r.judges.prompt import build_judge_prompt
from p2r.judges.remote import Reply, outcome_of
from p2r.records import Question, Verdict

log = logging.getLogger(__name__)

MAX_BYTES = 200 * 2**20
# A batch expires after a day; its results stay for 29.
LEASE = 29 * 86400.0
# How far the server's clock may be from ours.
SKEW = 600.0
# A request that expired, or that the server failed on, goes into another batch as often.
ROUNDS = 3
# How many failures of the server in a row, a poll apart, are waited out.
PATIENCE = 60
AGAIN = {"expired", "api_error", "overloaded_error", "rate_limit_error", "timeout_error"}


@dataclass(frozen=True)
class Batch:
    """A batch that was sent, or was about to be: `id` is None until the server's answer is kept."""

    token: str
    id: str | None
    reservation: int
    requests: int
    made: float


class BatchJudge(BaseJudge):
    """Asks Claude in batches, with the cache and the books of the online judge.

    `submit` sends what is not known yet, `collect` waits for all batches; `judge` does both. After
    the process is killed, the same calls first find and collect what was under way. A batch that
    somebody cancelled is not sent again by this process. `grace`: seconds after which a batch that
    the listing does not show was never received.
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
        self.poll = poll
        self.grace = grace
        self._batches = judge.client.messages.batches
        # Sending is repeated here and not by the client, which cannot know what arrived.
        self._sender = judge.client.with_options(max_retries=0).messages.batches
        self._recovered = False
        # Keys under way -> the token of their batch; how often each was sent; why without verdict.
        self._pending: dict[str, str] = {}
        self._rounds: dict[str, int] = {}
        self._failed: dict[str, str] = {}

    async def ask(self, question: Question, observation: str) -> Verdict:
        """The verdict on one observation, by a batch of one."""
        return (await self.ask_all([question], [observation]))[0]

    async def ask_all(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> list[Verdict]:
        """Send, wait, and again what expired; then the verdicts, in order."""
        while await self.submit(questions, observations):
            await self.collect()
        keys, verdicts = self._resolve(questions, observations)
        for key in set(keys) - set(verdicts):
            verdicts[key] = self.inner.unknown(self._failed.get(key, "no result in its batches"))
        return [verdicts[key] for key in keys]

    async def submit(self, questions: Sequence[Question], observations: Sequence[str]) -> int:
        """Send what has no verdict yet and may be asked; returns how many requests that were.

        Raises `JudgeError` when not even one fits, after waiting for what was sent.
        """
        if not self._recovered:  # what an earlier process sent
            self._recovered = True
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
        waiting = [(key, build_judge_prompt(*pair)) for key, pair in missing.items()]
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
        """Wait for every batch of this run and judge, and keep its replies."""
        for batch in self._open_batches():
            found = batch if batch.id else await self._find(batch)
            if found is not None:
                await self._keep(found)

    # ---- sending

    def _take(self, waiting: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], float]:
        """The first of those waiting that one batch and the budget have room for, and their worst
        cost.
        """
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
                sent = await self._sender.create(requests=requests)
                return self._sent(batch, sent.id)
            except anthropic.APIStatusError as error:
                reason = f"HTTP {error.status_code}: {type(error).__name__}"
                if error.status_code in (408, 409, 429) and attempt < self.inner.limits.retries:
                    await asyncio.sleep(_pause(attempt, error.response, self.poll))
                    continue
                if error.status_code < 500:
                    return self._forget(batch, f"the batch was refused: {reason}", keys)
            except (anthropic.AnthropicError, ValueError, AttributeError) as error:
                reason = f"no connection: {type(error).__name__}"
            # It may have arrived all the same.
            if await self._find(batch, forget=False) is not None:
                return None
            await asyncio.sleep(_pause(attempt, None, self.poll))
        return self._forget(batch, f"the batch could not be sent: {reason}", keys)

    def _sent(self, batch: Batch, batch_id: str) -> None:
        log.info("batch %s: %d requests sent", batch_id, batch.requests)
        with self.database.transaction() as books:
            books.execute("UPDATE batches SET id = ? WHERE token = ?", (batch_id, batch.token))

    def _forget(self, batch: Batch, reason: str, keys: Sequence[str] = ()) -> None:
        """A batch that never was: nothing was spent on it."""
        self._done(batch)
        self._failed |= dict.fromkeys(keys, reason)
        with self.database.transaction() as books:
            books.execute("DELETE FROM batches WHERE token = ?", (batch.token,))
            outcomes = {reason: (batch.requests, Usage(), 0.0)}
            self.ledger.settle(books, batch.reservation, self.name, outcomes)

    # ---- finding and waiting

    async def _find(self, batch: Batch, forget: bool = True) -> Batch | None:
        """The batch with its id, from the server's listing; None where it never arrived."""
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
                self._bear(failures, error)
                late = False
            if late:
                if forget:
                    self._forget(batch, "the batch was never received")
                return None
            await asyncio.sleep(min(self.poll, self.grace))

    async def _listed(self, batch: Batch) -> AsyncIterator[Any]:
        """Batches on the server that may be this one: as many requests, made since, not known."""
        rows = self.database.rows("SELECT id FROM batches WHERE id NOT NULL")
        known = {row["id"] for row in rows}
        earliest = datetime.fromtimestamp(batch.made - SKEW, UTC)
        async for listed in self._batches.list(limit=100):
            if listed.created_at < earliest:
                return
            counts = listed.request_counts
            total = sum(
                getattr(counts, part)
                for part in ("processing", "succeeded", "errored", "canceled", "expired")
            )
            if listed.id not in known and total == batch.requests:
                yield listed

    async def _is(self, batch_id: str, batch: Batch) -> bool:
        """Do the custom ids of a batch bear this token? They are known when it has ended."""
        results = await self._results(batch_id) or []
        return any(result.custom_id.startswith(f"{batch.token}-") for result in results[:1])

    async def _results(self, batch_id: str) -> list[Any] | None:
        """The results of a batch, when it has ended; outages in between are waited out. None where
        the server has the batch, or its results, no longer.
        """
        failures = 0
        while True:
            try:
                batch = await self._batches.retrieve(batch_id)
                if batch.processing_status == "ended":
                    if not batch.results_url:
                        return None
                    return [result async for result in await self._batches.results(batch_id)]
                failures = 0
            except anthropic.NotFoundError:
                return None
            except (anthropic.AnthropicError, ValueError) as error:
                failures += 1
                self._bear(failures, error)
            await asyncio.sleep(self.poll)

    def _bear(self, failures: int, error: Exception) -> None:
        """Wait the server's failures out, unless they last, or asking again is no use."""
        if failures > PATIENCE or isinstance(
            error, anthropic.AuthenticationError | anthropic.PermissionDeniedError
        ):
            raise JudgeError(
                f"the batches cannot be asked for ({type(error).__name__}): nothing is lost, the "
                "same command goes on when the server answers again"
            ) from error
        log.warning("batches: %s, asking again in %g s", type(error).__name__, self.poll)

    # ---- keeping

    async def _keep(self, batch: Batch) -> None:
        """Store the replies of an ended batch and settle its cost, in one transaction."""
        replies: dict[str, Reply] = {}
        failures: dict[str, str] = {}
        results = await self._results(batch.id)
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
        # Replies are read without their observations here, for the books alone.
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
        """A batch whose results are gone: it may have been charged for, and is sent anew."""
        log.warning("batch %s is gone from the server with its results", batch.id)
        with self.database.transaction() as books:
            held = books.execute(
                "SELECT worst FROM reservations WHERE id = ?", (batch.reservation,)
            ).fetchone()
            books.execute("DELETE FROM batches WHERE token = ?", (batch.token,))
            outcomes = {"batch: gone with its results": (batch.requests, Usage(), 0.0)}
            at_risk = held["worst"] if held else 0.0
            self.ledger.settle(books, batch.reservation, self.name, outcomes, at_risk)
        self._done(batch)

    def _done(self, batch: Batch) -> None:
        self._pending = {k: token for k, token in self._pending.items() if token != batch.token}

    def _resolve(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> tuple[list[str], dict[str, Verdict]]:
        """Keys in order, and the verdicts there are: from the cache, or from replies now read."""
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
        """The replies of these keys that are not read yet."""
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
    """Seconds before the next attempt: what the server asks for, within `longest`."""
    asked = response.headers.get("retry-after", "") if response is not None else ""
    seconds = float(asked) if asked.replace(".", "", 1).isdigit() else 2.0**attempt
    return min(seconds, longest)
