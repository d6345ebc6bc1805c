"""The base of all judges behind a server: limits, cache, ledger, and the reader of replies.

A subclass sends one request and returns the reply; this module does the rest. A cached verdict
costs nothing. Identical judgements in progress are sent once. Every call is reserved in the ledger
before it is sent and ends within its time limit. A failed call gives an unknown verdict with the
reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2r.errors import JudgeError, MediaError, VideoError
from p2r.judges.base import BaseJudge, judge_key, reused
from p2r.judges.cache import VerdictCache
from p2r.judges.ledger import Ledger
from p2r.judges.pictures import Prompt, pictures_of
from p2r.judges.prices import Price, Usage, find_price
from p2r.judges.prompt import (
    build_judge_prompt,
    explanation_of,
    judge_prompt_hash,
    parse_judgement,
)
from p2r.records import Question, Verdict

if TYPE_CHECKING:
    from p2r.judges.sight import Sight

# How often a malformed, cut or empty answer is asked for again.
REASKED = 2
REFUSED_KEY = (401, 403)  # HTTP status codes
_THINKING = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    """Limits of a judge: parallel calls, seconds per attempt, seconds per call with all attempts,
    attempts after the first, tokens of a reply.
    """

    concurrency: int = 64
    timeout: float = 120.0
    call_limit: float = 600.0
    retries: int = 5
    max_tokens: int = 1024


@dataclass(frozen=True)
class Reply:
    """The reply to one prompt.

    `stop` says how the text ended: "end", "cut" (too long), "refusal", or another reason.
    `failure`: why there is no text. `charged`: whether the call cost money: "yes", "no" or "maybe".
    `broken`: the answer is malformed, so it is worth asking again. `key_refused`: the server does
    not accept the key.
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

    Verdicts and results show its `name`. Its `identity` also has the server, so that the cache does
    not mix servers. `guidance` is additional text in every request, for example worked examples.
    `prompt` is the text of a prompt file. `request` are the fields of every request that replace
    those of the model. The hashes of all three are part of name and identity.
    `default` is the text that is used without `prompt` ("": the prompt of `p2r.judges.prompt`).
    `sight` reads the frames that the judge sees (None: it sees none). `key_variable` is the
    environment variable with the key.
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
        prompt: str = "",
        default: str = "",
        sight: Sight | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.sight = sight
        self._template = prompt or default
        if guidance:
            self.name += "+" + hashlib.sha256(guidance.encode()).hexdigest()[:6]
        if prompt:
            self.name += f"+prompt-{judge_prompt_hash(prompt)[:6]}"
        if request is not None:
            fields = json.dumps(request, sort_keys=True)
            self.name += f"+request-{hashlib.sha256(fields.encode()).hexdigest()[:6]}"
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
                " in US dollars per million tokens ([0, 0] for your own server)"
            )
        self._slots = asyncio.Semaphore(self.limits.concurrency)
        self._in_flight: dict[str, asyncio.Task[Verdict]] = {}
        self._refused: str | None = None  # why the server refused the key
        self._admitted = False  # whether the server accepted the key at least once

    @property
    def template(self) -> str:
        """The text of the prompt file ("": none)."""
        return self._template

    @property
    def sees_media(self) -> bool:
        """Whether the judge sees the media of a question."""
        return self.sight is not None

    @abstractmethod
    async def _send(self, prompt: str) -> Reply:
        """Send one request, with the client's retries; return the client's errors as a reply.

        `pictures_of(prompt)` are the pictures to show.
        """

    async def ask(self, question: Question, observation: str) -> Verdict:
        """Return the verdict from the cache, from the same call in progress, or from a new call.

        It is unknown if the judge sees frames and they cannot be read.
        """
        if self.sight is not None:
            try:  # decoding takes time: not on the event loop
                await asyncio.to_thread(self.sight.pictures, question)
            except (MediaError, VideoError) as error:
                return self.unknown(f"no frames: {error}")
        key = self.key(question, observation)
        if self.cache and (known := self.cache.get(key)):
            return known
        return await self._join(key, question, observation)

    async def ask_all(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> list[Verdict]:
        """Return the verdicts; read the cache once for all, unless keys need frames.

        Raises `JudgeError` if the server refused the key and answered no call: more calls would
        fail too.
        """
        known: dict[int, Verdict] = {}
        if self.cache and self.sight is None:
            keys = [self.key(q, o) for q, o in zip(questions, observations, strict=True)]
            found = self.cache.get_many(keys)
            known = {i: found[key] for i, key in enumerate(keys) if key in found}
        new = [i for i in range(len(questions)) if i not in known]
        asked = await super().ask_all([questions[i] for i in new], [observations[i] for i in new])
        if self._refused and not self._admitted:
            raise JudgeError(
                f"the server refuses the key of judge {self.name!r} ({self._refused}): check "
                f"{self.key_variable} in the environment"
            )
        known |= dict(zip(new, asked, strict=True))
        return [known[i] for i in range(len(questions))]

    def key(self, question: Question, observation: str) -> str:
        """Return the key in the cache: judge, prompt version and judgement, with its frames.

        Raises `MediaError` and `VideoError` if the judge sees frames and they cannot be read.
        """
        frames = self.sight.digest(question) if self.sight else ""
        return self.identity_key(judge_key(question, observation, self.sees_media, frames))

    def prompt(self, question: Question, observation: str) -> Prompt:
        """Return the request for one observation, with the frames that the judge sees.

        Raises `MediaError` and `VideoError` as `key` does.
        """
        text = build_judge_prompt(question, observation, self.template)
        return Prompt.of(text, self.sight.pictures(question) if self.sight else ())

    def identity_key(self, judgement: str) -> str:
        """Return the key of a judgement (see `judge_key`) by this judge."""
        return f"{self.identity}/{judge_prompt_hash(self.template)}/{judgement}"

    def read(self, reply: Reply, observation: str) -> Verdict:
        """Read the verdict in a reply; it is unknown, with the reason, if the reply has none."""
        verdict = self.unknown(reply.failure or "", reply.usage)
        if reply.failure is not None:
            return verdict
        sufficient = parse_judgement(reply.text, observation) if reply.stop == "end" else None
        rationale = explanation_of(reply.text)
        if sufficient is None:
            rationale = f"{_why(reply)}: {rationale}"
        return verdict.model_copy(update={"sufficient": sufficient, "rationale": rationale})

    def unknown(self, reason: str, usage: Usage | None = None) -> Verdict:
        """Return an unknown verdict with its reason and its cost."""
        verdict = Verdict(sufficient=None, rationale=reason, judge=self.name)
        return self._paid(verdict, usage) if usage and usage != Usage() else verdict

    def _paid(self, verdict: Verdict, usage: Usage) -> Verdict:
        cost = self.price.cost(usage) if self.price else 0.0
        described = usage.describe(self.price is not None)
        return verdict.model_copy(update={"usage": described, "cost": cost})

    def worst(self, prompt: str, batch: bool = False) -> float:
        """Return the highest possible cost of a call in US dollars."""
        if self.price is None:
            return 0.0
        shown = sum(picture.tokens for picture in pictures_of(prompt))
        return self.price.worst(self.guidance + prompt, self.limits.max_tokens, batch, shown)

    async def _join(self, key: str, question: Question, observation: str) -> Verdict:
        task = self._in_flight.get(key)
        if task is not None:
            return reused(await asyncio.shield(task))
        task = asyncio.ensure_future(self._judge_new(key, question, observation))
        self._in_flight[key] = task
        task.add_done_callback(lambda _: self._in_flight.pop(key, None))
        return await asyncio.shield(task)

    async def reply(self, prompt: str) -> Verdict:
        """Ask any other prompt; return the reply as a verdict's `rationale`.

        `sufficient` is True if the reply is complete. Cache, budget and ledger work as for
        verdicts.
        """
        key = f"{self.identity}/reply/{hashlib.sha256(prompt.encode()).hexdigest()[:24]}"
        if self.cache and (known := self.cache.get(key)):
            return known
        return await self._ask_new(key, prompt, self._whole)

    def _whole(self, reply: Reply) -> Verdict:
        found = self.unknown(reply.failure or reply.text, reply.usage)
        whole = reply.failure is None and reply.stop == "end"
        return found.model_copy(update={"sufficient": True}) if whole else found

    async def _judge_new(self, key: str, question: Question, observation: str) -> Verdict:
        prompt = self.prompt(question, observation)
        return await self._ask_new(key, prompt, lambda reply: self.read(reply, observation))

    async def _ask_new(self, key: str, prompt: str, read: Callable[[Reply], Verdict]) -> Verdict:
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
        # Malformed answers cost money too.
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
    """Remove the thinking that some models write before their reply."""
    return _THINKING.sub("", text).strip()


def outcome_of(reply: Reply, verdict: Verdict) -> str:
    """Return the outcome of a call for the ledger: "verdict", or the kind of failure."""
    if verdict.sufficient is not None:
        return "verdict"
    return reply.failure or f"no readable verdict ({reply.stop})"


def _why(reply: Reply) -> str:
    if reply.stop == "refusal":
        return "the judge refused"
    if reply.stop == "end" and parse_judgement(reply.text) is not None:
        return "the judge only repeats a verdict from the observation"
    stopped = {"end": "end_turn", "cut": "max_tokens"}.get(reply.stop, reply.stop)
    return f"no readable verdict (stopped by {stopped})"
