"""The verdicts of one run, in its folder, in addition to the cache that all runs share."""

from __future__ import annotations

from collections.abc import Sequence

from p2r.files.journal import Journal
from p2r.judges.base import Judge, judge_distinct, judge_key, reused, sees_media
from p2r.judges.prompt import judge_prompt_hash
from p2r.records import Question, Verdict

CHUNK = 512


class JournaledJudge:
    """A judge that stores its verdicts in the run folder and does not ask for them again.

    A failure is not stored, so it is asked again the next time.
    """

    def __init__(self, judge: Judge, journal: Journal) -> None:
        self.name = judge.name
        self.sees_media = sees_media(judge)
        self._judge = judge
        self._prompt = judge_prompt_hash(getattr(judge, "template", ""))
        self._journal = journal
        self._known = {key: Verdict.model_validate(record) for key, record in journal.records()}

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
            keep = {k: v for k, v in new.items() if v.sufficient is not None}
            self._journal.append_many((k, v.model_dump(mode="json")) for k, v in keep.items())
            self._known |= keep
        return [verdicts[key] for key in keys]

    def _key(self, question: Question, observation: str) -> str:
        return f"{self.name}/{self._prompt}/{judge_key(question, observation, self.sees_media)}"
