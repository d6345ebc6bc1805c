"""The verdicts of one run, in its folder, in addition to the cache that all runs share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from p2r.files.journal import Journal
from p2r.judges.base import Judge, identity_of, judge_distinct, judge_key, reused, sees_media
from p2r.judges.prompt import judge_prompt_hash
from p2r.records import Question, Verdict

CHUNK = 512


class JournaledJudge:
    """A judge that stores its verdicts in the run folder and does not ask for them again.

    A failure is not stored, so it is asked again the next time.
    """

    def __init__(self, judge: Judge, journal: Journal) -> None:
        self.name = judge.name
        self.identity = identity_of(judge)
        self.sees_media = sees_media(judge)
        self.waits = bool(getattr(judge, "waits", False))
        self._judge: Any = judge
        self._prompt = judge_prompt_hash(getattr(judge, "template", ""))
        self._journal = journal
        self._known = {key: Verdict.model_validate(record) for key, record in journal.records()}
        self._keeping = threading.Lock()

    async def ask(self, question: Question, observation: str) -> Verdict:
        """Judge one observation; a new verdict is on disk when the call returns.

        The judge must have a method `ask`, as every `BaseJudge` has.
        """
        key = self._key(question, observation)
        if key in self._known:
            return reused(self._known[key])
        verdict: Verdict = await self._judge.ask(question, observation)
        await asyncio.to_thread(self._keep, {key: verdict})  # the disk would block the event loop
        return verdict

    def judge(self, questions: Sequence[Question], observations: Sequence[str]) -> list[Verdict]:
        """Judge as `Judge.judge`; new verdicts are on disk when the call returns."""
        return judge_distinct(self._ask, questions, observations, self.sees_media)

    def _ask(self, questions: list[Question], observations: list[str]) -> list[Verdict]:
        keys = [self._key(q, o) for q, o in zip(questions, observations, strict=True)]
        verdicts = {key: reused(self._known[key]) for key in keys if key in self._known}
        missing = [i for i, key in enumerate(keys) if key not in verdicts]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            asked = self._judge.judge(
                [questions[i] for i in chunk], [observations[i] for i in chunk]
            )
            new = {keys[i]: verdict for i, verdict in zip(chunk, asked, strict=True)}
            verdicts |= new
            self._keep(new)
        return [verdicts[key] for key in keys]

    def _keep(self, found: Mapping[str, Verdict]) -> None:
        with self._keeping:
            new = {
                key: verdict
                for key, verdict in found.items()
                if verdict.sufficient is not None and key not in self._known
            }
            self._journal.append_many((k, v.model_dump(mode="json")) for k, v in new.items())
            self._known |= new

    def _key(self, question: Question, observation: str) -> str:
        shown = judge_key(question, observation, self.sees_media)
        return f"{self.identity}/{self._prompt}/{shown}"
