"""What every judge is: a name, and a verdict for a question and an observation.

`judge` takes one question, and is awaited, or sequences, and answers when all verdicts are there.
All judges live on one event loop in a thread of its own, so that they can be called from plain
code, from threads, and from a loop that already runs (a notebook's), with one set of connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, overload

from p2r.records import Case, Question, Verdict

# An observation that cannot be read, missing or cut off: nobody is asked.
NO_OBSERVATION = Verdict(sufficient=False, rationale="no readable observation")


class Judge(Protocol):
    """Anything that decides sufficiency for many.

    `judge` answers one verdict per observation, in order. It asks identical (question, answer,
    observation) once, and never raises for a single one: a failure is `Verdict(sufficient=None,
    rationale=reason)`.
    """

    name: str

    def judge(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> list[Verdict]: ...


class BaseJudge(ABC):
    """A judge that answers for one (`await judge.judge(question, observation)`) and for many."""

    name: str

    @abstractmethod
    async def ask(self, question: Question, observation: str) -> Verdict:
        """The verdict on one observation; runs on the judges' own loop."""

    async def ask_all(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> list[Verdict]:
        """A verdict for each, in order. Where one cannot be asked at all (the budget is spent),
        the others are still waited for, and then that error is raised.
        """
        pairs = list(zip(questions, observations, strict=True))
        keys = [judge_key(*pair) for pair in pairs]
        distinct: dict[str, tuple[Question, str]] = {}
        for key, pair in zip(keys, pairs, strict=True):
            distinct.setdefault(key, pair)
        asked = [self.ask(*pair) for pair in distinct.values()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return hand_out(keys, dict(zip(distinct, answers, strict=True)))

    def parts(self) -> list[BaseJudge]:
        """The judges that are asked when this one is: itself, or those that it is made of."""
        return [self]

    @overload
    def judge(self, question: Question, observation: str) -> Awaitable[Verdict]: ...
    @overload
    def judge(self, question: Sequence[Question], observation: Sequence[str]) -> list[Verdict]: ...

    def judge(self, question, observation):
        """One question: an awaitable verdict. Sequences: their verdicts, in order, when all are
        there. See `Judge`; raises `JudgeError` and `JudgeError` only.
        """
        if isinstance(question, Question):
            return _wait_for(self.ask(question, observation))
        return call(self.ask_all(question, observation))


def judge_key(question: Question, observation: str) -> str:
    """What makes two judgements the same: all that the judge is shown."""
    shown = (
        question.problem,
        question.options,
        question.answer,
        question.data_type,
        observation,
    )
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:24]


def judge_distinct(
    ask: Callable[[list[Question], list[str]], list[Verdict]],
    questions: Sequence[Question],
    observations: Sequence[str],
) -> list[Verdict]:
    """Ask for each distinct judgement once and hand the verdicts out in order.

    A verdict handed out a second time carries no cost: sums over verdicts are what was paid.
    """
    keys = [judge_key(q, o) for q, o in zip(questions, observations, strict=True)]
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)
    asked = ask([questions[i] for i in first.values()], [observations[i] for i in first.values()])
    return hand_out(keys, dict(zip(first, asked, strict=True)))


def hand_out(keys: Sequence[str], verdicts: dict[str, Verdict]) -> list[Verdict]:
    """The verdict of each key; the second time without its cost."""
    seen: set[str] = set()
    handed = []
    for key in keys:
        handed.append(reused(verdicts[key]) if key in seen else verdicts[key])
        seen.add(key)
    return handed


def reused(verdict: Verdict) -> Verdict:
    """A verdict that was paid for before: its cost is not counted again."""
    if not verdict.usage and not verdict.cost:
        return verdict
    return verdict.model_copy(update={"usage": {"reused": True}, "cost": 0.0})


# ---- the judges' loop

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner = 0


def call(work: Coroutine[Any, Any, Any]) -> Any:
    """Run work on the judges' loop and wait for its result; an interrupt cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, _running_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _wait_for(work: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, _running_loop()))


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop, _owner
    with _lock:
        # A forked child has the loop's memory without its thread: it starts one of its own.
        if _loop is None or _owner != os.getpid():
            _loop, _owner = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_loop.run_forever, name="judges", daemon=True).start()
        return _loop


def judge_observations(cases: Sequence[Case], judge: Judge) -> list[Verdict]:
    """Return one verdict for each case.

    A case whose observation is missing or unreadable is not sufficient; the judge is not asked.
    """
    asked = [case for case in cases if case.trace.observation]
    found = judge.judge([c.question for c in asked], [c.trace.observation or "" for c in asked])
    verdicts = iter(found)
    return [next(verdicts) if case.trace.observation else NO_OBSERVATION for case in cases]
