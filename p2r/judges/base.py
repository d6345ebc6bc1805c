"""The base of every judge: a name, and a verdict for a question and an observation.

`judge` takes one question and returns an awaitable, or takes sequences and returns all verdicts.
All judges work on the background event loop (`p2r.files.background`). So plain code, threads and
notebooks can call them, and they share one set of connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, overload

from p2r.files.background import awaitable, call
from p2r.records import Case, Question, Verdict
from p2r.template import lettered_options

# The key of `Question.meta` that names the clip, for judges that know more of it than its text.
CLIP = "_clip"
# The verdict on an observation that is missing, unreadable or cut off. No judge is asked.
NO_OBSERVATION = Verdict(sufficient=False, rationale="no readable observation")


class Judge(Protocol):
    """Anything that can decide whether observations are sufficient.

    `judge` returns one verdict per observation, in order. It asks each distinct (question, answer,
    observation) once. A failure does not raise: it is `Verdict(sufficient=None, rationale=reason)`.
    """

    name: str

    def judge(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> list[Verdict]: ...


class BaseJudge(ABC):
    """Base class of judges; a subclass sets `name` and implements `ask`.

    If its verdicts depend on more than the name tells, such as the server, a judge also has an
    `identity` (see `identity_of`).

    In a recipe, a judge is `KIND` or `KIND:TEXT`, or a mapping with `kind` and settings. `form`
    says how TEXT looks: "" if there is none, in brackets if it may be left out. `free` is true if
    a verdict of this kind costs nothing by itself.
    """

    name: str
    form: ClassVar[str] = ""
    free: ClassVar[bool] = False

    @classmethod
    def read_spec(cls, text: str) -> dict[str, Any]:
        """Return the settings in TEXT; raise ValueError if it does not have the form."""
        return {}

    @classmethod
    def make(cls, maker: Any, **settings: Any) -> BaseJudge:
        """Make the judge from its settings.

        `maker`, a `JudgeMaker`, has the recipe's settings and makes inner judges.
        """
        return cls(**settings)

    @abstractmethod
    async def ask(self, question: Question, observation: str) -> Verdict:
        """Return the verdict on one observation."""

    async def ask_all(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> list[Verdict]:
        """Return a verdict for each of these distinct judgements, in order.

        If one cannot be asked (the budget is spent), its error is raised after the others ended.
        """
        return await all_verdicts(
            self.ask(*pair) for pair in zip(questions, observations, strict=True)
        )

    def parts(self) -> list[BaseJudge]:
        """Return the judges that this one asks: itself, or its members."""
        return [self]

    @property
    def sees_media(self) -> bool:
        """Whether the judge, or a member of it, sees the media of a question."""
        return any(part.sees_media for part in self.parts() if part is not self)

    @property
    def waits(self) -> bool:
        """Whether the judge, or a part of it, waits for a server.

        Other work can go on meanwhile, so RL asks such a judge early, about single observations. A
        judge that computes its verdicts on this machine should set it to False.
        """
        return any(not part.free if part is self else part.waits for part in self.parts())

    @property
    def has_batches(self) -> bool:
        """Whether the judge can answer by Message Batches."""
        return False

    @property
    def template(self) -> str:
        """The text of the prompt file that the judges behind a server use ("": none)."""
        return next((part.template for part in self.parts() if part is not self), "")

    @overload
    def judge(self, question: Question, observation: str) -> Awaitable[Verdict]: ...
    @overload
    def judge(self, question: Sequence[Question], observation: Sequence[str]) -> list[Verdict]: ...

    def judge(self, question: Any, observation: Any) -> Any:
        """Judge one question (returns an awaitable) or sequences (returns their verdicts in order).

        Each distinct judgement is asked once. Raises only `JudgeError`.
        """
        if isinstance(question, Question):
            return awaitable(self.ask(question, observation))
        return judge_distinct(
            lambda *asked: call(self.ask_all(*asked)), question, observation, self.sees_media
        )


async def all_verdicts(asked: Iterable[Awaitable[Verdict]]) -> list[Verdict]:
    """Wait until all calls have ended; return their verdicts, or raise the first error."""
    found = await asyncio.gather(*asked, return_exceptions=True)
    for verdict in found:
        if isinstance(verdict, BaseException):
            raise verdict
    return [verdict for verdict in found if isinstance(verdict, Verdict)]


def identity_of(judge: Judge) -> str:
    """Return the name by which a judge's verdicts are stored: its `identity`, or its name."""
    return getattr(judge, "identity", judge.name)


def sees_media(judge: Any) -> bool:
    """Return whether a judge, or a member of it, sees the media of a question."""
    return bool(getattr(judge, "sees_media", False))


def judge_key(question: Question, observation: str, media: bool = False, frames: str = "") -> str:
    """Return the key of a judgement: a hash of everything that the judge sees.

    `media`: the judge also sees the media. `frames`: a hash of the frames, if they were read.
    """
    shown = (
        question.problem,
        lettered_options(question.options),
        question.answer,
        question.media_word,
        observation,
        *((question.meta[CLIP],) if CLIP in question.meta else ()),
        *([medium.model_dump() for medium in question.media] if media and not frames else ()),
        *((frames,) if frames else ()),
    )
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:24]


def judge_distinct(
    ask: Callable[[list[Question], list[str]], list[Verdict]],
    questions: Sequence[Question],
    observations: Sequence[str],
    media: bool = False,
) -> list[Verdict]:
    """Ask for each distinct judgement once; return a verdict for each pair, in order.

    A repeated verdict has no cost, so that the sum over verdicts is the price paid. `media`: the
    judge sees the media of a question too.
    """
    keys = [judge_key(q, o, media) for q, o in zip(questions, observations, strict=True)]
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)
    asked = ask([questions[i] for i in first.values()], [observations[i] for i in first.values()])
    verdicts = dict(zip(first, asked, strict=True))
    return [
        verdicts[key] if first[key] == index else reused(verdicts[key])
        for index, key in enumerate(keys)
    ]


def reused(verdict: Verdict) -> Verdict:
    """Return a verdict that was paid for before: its cost is not counted again."""
    if not verdict.usage and not verdict.cost:
        return verdict
    return verdict.model_copy(update={"usage": {"reused": True}, "cost": 0.0})


def judge_observations(cases: Sequence[Case], judge: Judge) -> list[Verdict]:
    """Return one verdict for each case.

    A case whose observation is missing or unreadable is not sufficient; the judge is not asked.
    """
    asked = [case for case in cases if case.trace.observation]
    found = judge.judge([c.question for c in asked], [c.trace.observation or "" for c in asked])
    verdicts = iter(found)
    return [next(verdicts) if case.trace.observation else NO_OBSERVATION for case in cases]
