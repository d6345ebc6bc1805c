"""What judges behind a server have in common: limits, memory, books, and the reading of replies.

A subclass sends one request and says what came back; everything else is here. A verdict that is in
the cache costs nothing, identical judgements in flight are sent once, and every call is reserved in
the ledger before it is sent. Whatever goes wrong with one call is a verdict without an answer, and
its reason; no call lasts longer than its limit.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from p2r.errors import JudgeError
from p2r.judges.base import BaseJudge, judge_key, reused
from p2r.judges.cache import VerdictCache
from p2r.judges.ledger import Ledger
from p2r.judges.prices import Price, Usage, find_price
from p2r.judges.prompt import PROMPT_HASH, build_judge_prompt, explanation_of, parse_judgement
from p2r.records import Question, Verdict

# An answer that is no message (cut off, malformed, empty) is asked for again as often.
REASKED = 2
REFUSED_KEY = (401, 403)  # statuses
_THINKING = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    """What a judge may take: calls at once, seconds of one attempt, seconds of a call with all its
    attempts, attempts after the first, tokens of a reply.
    """

    concurrency: int = 64
    timeout: float = 120.0
    call_limit: float = 600.0
    retries: int = 5
    max_tokens: int = 1024


@dataclass(frozen=True)
class Reply:
    """What came back for one prompt.

    `stop` is how the text ended: "end", "cut" (no room for more), "refusal", or another reason.
    `failure`: why there is no text; `charged`: was it, surely ("yes"), not ("no"), or perhaps
    ("maybe"); `broken`: an answer came that is none, worth asking again; `key_refused`: the server
    does not know the key, or does not let it do this.
    """

    text: str = ""
    stop: str = "end"
    usage: Usage = field(default_factory=Usage)
    failure: str | None = None
    charged: str = "yes"
    broken: bool = False
    key_refused: bool = False


class RemoteJudge(BaseJudge):
    """A judge behind a server.

    `name` is what verdicts and results show; `identity` also says which server, so that one
    server's verdicts never pass for another's. `guidance`: words of the house to the judge (worked
    examples, say), the same in every request; it is part of both. `key_variable` is where the key
    comes from.
    """

    key_variable = "P2R_JUDGE_KEY"

    def __init__(
        self,
        name: str,
        model: str,
        server: str,
        limits: Limits | None = None,
        guidance: str = "",
        prices: Mapping[str, tuple[float, float]] | None = None,
        cache: VerdictCache | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.name = name
        if guidance:
            self.name += "+" + hashlib.sha256(guidance.encode()).hexdigest()[:6]
        self.identity = f"{self.name}@{server}" if server else self.name
        self.model = model
        self.limits = limits or Limits()
        self.guidance = guidance
        self.price: Price | None = find_price(model, prices)
        self.cache = cache
        self.ledger = ledger
        if ledger is not None and ledger.budget is not None and self.price is None:
            raise JudgeError(
                f"a budget needs the price of {model!r}: set judging.prices={{{model}: [IN, OUT]}}"
                ", US dollars per million tokens (0, 0 for a server of your own)"
            )
        self._slots = asyncio.Semaphore(self.limits.concurrency)
        self._in_flight: dict[str, asyncio.Task[Verdict]] = {}
        self._refused: str | None = None  # why, if the key was
        self._admitted = False  # whether anything else than that has come back

    @abstractmethod
    async def _send(self, prompt: str) -> Reply:
        """One request, with the client's own retries; what the client raises becomes a reply."""

    async def ask(self, question: Question, observation: str) -> Verdict:
        """The verdict from the cache, from a call that is in flight, or from a new one."""
        key = self.key(question, observation)
        if self.cache and (known := self.cache.get(key)):
            return known
        return await self._join(key, question, observation)

    async def ask_all(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> list[Verdict]:
        """Return the verdicts; read the cache once for all.

        Raises `JudgeError` if the server refused the key and answered no call: more calls would
        fail too.
        """
        keys = [self.key(q, o) for q, o in zip(questions, observations, strict=True)]
        known = self.cache.get_many(keys) if self.cache else {}
        new = [i for i, key in enumerate(keys) if key not in known]
        asked = await super().ask_all([questions[i] for i in new], [observations[i] for i in new])
        if self._refused and not self._admitted:
            raise JudgeError(
                f"the server refuses the key of judge {self.name!r} ({self._refused}): check "
                f"{self.key_variable} in the environment"
            )
        known |= {keys[i]: verdict for i, verdict in zip(new, asked, strict=True)}
        return [known[key] for key in keys]

    def key(self, question: Question, observation: str) -> str:
        """The judgement's key in the cache: judge, prompt version, and all that the judge sees."""
        return self.identity_key(judge_key(question, observation))

    def identity_key(self, judgement: str) -> str:
        """The key of a judgement (see `judge_key`) by this judge."""
        return f"{self.identity}/{PROMPT_HASH}/{judgement}"

    def read(self, reply: Reply, observation: str) -> Verdict:
        """The verdict in a reply; None in it, with the reason, where the reply gives none."""
        verdict = self.unknown(reply.failure or "", reply.usage)
        if reply.failure is not None:
            return verdict
        sufficient = parse_judgement(reply.text, observation) if reply.stop == "end" else None
        rationale = explanation_of(reply.text)
        if sufficient is None:
            rationale = f"{_why(reply)}: {rationale}"
        return verdict.model_copy(update={"sufficient": sufficient, "rationale": rationale})

    def unknown(self, reason: str, usage: Usage | None = None) -> Verdict:
        """No verdict, because of this, and what it cost all the same."""
        verdict = Verdict(sufficient=None, rationale=reason, judge=self.name)
        return self._paid(verdict, usage) if usage and usage != Usage() else verdict

    def _paid(self, verdict: Verdict, usage: Usage) -> Verdict:
        cost = self.price.cost(usage) if self.price else 0.0
        described = usage.describe(self.price is not None)
        return verdict.model_copy(update={"usage": described, "cost": cost})

    def worst(self, prompt: str, batch: bool = False) -> float:
        """US dollars that a call can cost at most."""
        if self.price is None:
            return 0.0
        return self.price.worst(self.guidance + prompt, self.limits.max_tokens, batch)

    async def _join(self, key: str, question: Question, observation: str) -> Verdict:
        task = self._in_flight.get(key)
        if task is not None:
            return reused(await asyncio.shield(task))
        task = asyncio.ensure_future(self._judge_anew(key, question, observation))
        self._in_flight[key] = task
        task.add_done_callback(lambda _: self._in_flight.pop(key, None))
        return await asyncio.shield(task)

    async def reply(self, prompt: str) -> Verdict:
        """The reply to a prompt of one's own, as the `rationale` of what is `sufficient` where it
        is whole; remembered, reserved and booked as verdicts are.
        """
        key = f"{self.identity}/reply/{hashlib.sha256(prompt.encode()).hexdigest()[:24]}"
        if self.cache and (known := self.cache.get(key)):
            return known
        return await self._ask_anew(key, prompt, self._whole)

    def _whole(self, reply: Reply) -> Verdict:
        found = self.unknown(reply.failure or reply.text, reply.usage)
        whole = reply.failure is None and reply.stop == "end"
        return found.model_copy(update={"sufficient": True}) if whole else found

    async def _judge_anew(self, key: str, question: Question, observation: str) -> Verdict:
        prompt = build_judge_prompt(question, observation)
        return await self._ask_anew(key, prompt, lambda reply: self.read(reply, observation))

    async def _ask_anew(self, key: str, prompt: str, read: Callable[[Reply], Verdict]) -> Verdict:
        spent = Usage()
        async with self._slots:
            for _ in range(1 + REASKED):
                held = await self._reserve(key, prompt)
                if held is None and self.cache and (known := self.cache.get(key)):
                    return known
                reply = await self._send_in_time(prompt)
                if reply.key_refused:
                    self._refused = reply.failure
                else:
                    self._admitted = True
                verdict = read(reply)
                self._book(held, key, prompt, reply, verdict)
                spent += reply.usage
                if not reply.broken:
                    break
        # Answers that were none have cost something too.
        return verdict if spent == reply.usage else self._paid(verdict, spent)

    async def _send_in_time(self, prompt: str) -> Reply:
        try:
            async with asyncio.timeout(self.limits.call_limit):
                return await self._send(prompt)
        except TimeoutError:
            reason = f"no answer within {self.limits.call_limit:g} s"
            return Reply(failure=reason, charged="maybe")

    async def _reserve(self, key: str, prompt: str) -> int | None:
        if self.ledger is None:
            return None
        lease = self.limits.call_limit + 60
        return await self.ledger.reserve(self.name, key, self.worst(prompt), lease)

    def _book(
        self, held: int | None, key: str, prompt: str, reply: Reply, verdict: Verdict
    ) -> None:
        if self.ledger is None or held is None:
            return
        outcome = outcome_of(reply, verdict)
        at_risk = self.worst(prompt) if reply.charged == "maybe" else 0.0
        with self.ledger.database.transaction() as books:
            if self.cache:
                self.cache.put(books, key, verdict)
            counts = (1, reply.usage, verdict.cost)
            self.ledger.settle(books, held, self.name, {outcome: counts}, at_risk)


def without_thinking(text: str) -> str:
    """A reply without the thinking that some models of one's own write before it."""
    return _THINKING.sub("", text).strip()


def outcome_of(reply: Reply, verdict: Verdict) -> str:
    """Under what a call stands in the ledger: "verdict", or the kind of failure."""
    if verdict.sufficient is not None:
        return "verdict"
    return reply.failure or f"no readable verdict ({reply.stop})"


def _why(reply: Reply) -> str:
    if reply.stop == "refusal":
        return "the judge refused"
    if reply.stop == "end" and parse_judgement(reply.text) is not None:
        return "the judge only repeats a verdict that the observation plants"
    stopped = {"end": "end_turn", "cut": "max_tokens"}.get(reply.stop, reply.stop)
    return f"no readable verdict (stopped by {stopped})"
