"""Judges: is an observation sufficient to deduce the right answer?

A judge sees question, right answer and observation, never the pixels. `load_judge("oracle")` reads
the playground's closed world and costs nothing; `load_judge("claude")` asks Claude.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from p2r.journal import Journal
from p2r.judges.prompt import PROMPT_HASH
from p2r.records import Question, Verdict

# Name -> module and class. Imported on demand: a judge's client library is needed only where it is
# used.
JUDGES = {
    "oracle": "p2r.playground.oracle:OracleJudge",
    "claude": "p2r.judges.claude:ClaudeJudge",
}
CHUNK = 64
# An observation that cannot be read, missing or cut off: nobody is asked.
NO_OBSERVATION = Verdict(sufficient=False, rationale="no readable observation")


class JudgeError(ValueError):
    """A judge that cannot be used at all; the message says which, why, and what to do."""


class Judge(Protocol):
    """Anything that decides sufficiency.

    `judge` answers one verdict per observation, in order. It asks identical (question, answer,
    observation) once, and never raises for a single one: a failure is `Verdict(sufficient=None,
    rationale=reason)`.
    """

    name: str

    def judge(
        self, questions: Sequence[Question], observations: Sequence[str]
    ) -> list[Verdict]: ...


def load_judge(name: str, **settings: Any) -> Judge:
    """The judge called `name`, or `name:model` (as in `claude:claude-haiku-4-5`); raises
    `JudgeError`.
    """
    kind, _, model = name.partition(":")
    if kind not in JUDGES:
        raise JudgeError(f"no judge {name!r}: choose one of {', '.join(JUDGES)}")
    module, _, attribute = JUDGES[kind].partition(":")
    if model:
        settings["model"] = model
    try:
        make = getattr(importlib.import_module(module), attribute)
        return make(**settings)
    except ImportError as error:
        raise JudgeError(
            f"judge {name!r} needs {error.name}: install it with pip install 'p2r[judges]'"
        ) from error
    except TypeError as error:
        raise JudgeError(f"judge {name!r} cannot take these settings: {error}") from error


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
    verdicts = dict(zip(first, asked, strict=True))
    return [
        verdicts[key] if first[key] == index else _reused(verdicts[key])
        for index, key in enumerate(keys)
    ]


class JournaledJudge:
    """A judge with a memory on disk: what was judged, and paid for, is not judged again.

    A failure that cost nothing (no connection, say) is not remembered and is tried again next time.
    """

    def __init__(self, judge: Judge, journal: Journal) -> None:
        self.name = judge.name
        self._judge = judge
        self._journal = journal
        self._known = {key: Verdict.model_validate(record) for key, record in journal.records()}

    def judge(self, questions: Sequence[Question], observations: Sequence[str]) -> list[Verdict]:
        """As `Judge.judge`; new verdicts are on disk before the call returns."""
        return judge_distinct(self._ask, questions, observations)

    def _ask(self, questions: list[Question], observations: list[str]) -> list[Verdict]:
        keys = [self._key(q, o) for q, o in zip(questions, observations, strict=True)]
        verdicts = {key: _reused(self._known[key]) for key in keys if key in self._known}
        missing = [i for i, key in enumerate(keys) if key not in verdicts]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            asked = self._judge.judge(
                [questions[i] for i in chunk], [observations[i] for i in chunk]
            )
            new = {keys[i]: verdict for i, verdict in zip(chunk, asked, strict=True)}
            verdicts |= new
            keep = {k: v for k, v in new.items() if v.sufficient is not None or v.usage}
            self._journal.append_many((k, v.model_dump(mode="json")) for k, v in keep.items())
            self._known |= keep
        return [verdicts[key] for key in keys]

    def _key(self, question: Question, observation: str) -> str:
        return f"{self.name}/{PROMPT_HASH}/{judge_key(question, observation)}"


def _reused(verdict: Verdict) -> Verdict:
    if not verdict.usage and not verdict.cost:
        return verdict
    return verdict.model_copy(update={"usage": {"reused": True}, "cost": 0.0})
