"""Check that every reference answer scores 1.0; `p2r doctor --rewards` prints the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from p2r.formats import BadRecord, read_questions
from p2r.records import Question
from p2r.scoring import accuracy

# The reason why a reference answer cannot be scored, by problem type.
_UNSCORABLE = {
    "multiple choice": "is none of the options",
    "numerical": "is not a single number",
    "regression": "is not a single number",
    "free-form": "is empty",
}
_SHOWN = 20  # failures in the report; all are in `RewardCheck.failures`


@dataclass(frozen=True)
class RewardFailure:
    """A reference answer below 1.0, an unreadable record, or a missing part.

    An unreadable record has no `id`. A missing part has neither `id` nor `index`.
    `index` counts from 0, the message from 1.
    """

    index: int | None
    id: str | None
    reason: str

    def __str__(self) -> str:
        place = "" if self.index is None else f"record {self.index + 1}"
        name = "" if self.id is None else f" (id {self.id})"
        return ": ".join(filter(None, (place + name, self.reason)))


@dataclass
class RewardCheck:
    """The result of `check_rewards`: questions and right answers by problem type, and failures.

    It is true if the check passed. As a string, it is the report with one line per finding.
    """

    questions: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    failures: list[RewardFailure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there are questions and all of them score exactly 1.0."""
        return bool(self.questions) and not self.failures

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        counts = [
            f"{kind}: {self.right[kind]} of {number} reference answers earn 1.0"
            for kind, number in sorted(self.questions.items())
        ] or ["the file has no readable question"]
        shown = [str(failure) for failure in self.failures[:_SHOWN]]
        hidden = len(self.failures) - len(shown)
        return "\n".join(counts + shown + ([f"… and {hidden} more"] if hidden else []))


def check_rewards(path: str | Path) -> RewardCheck:
    """Score the reference answer of every question of a file like a model's answer.

    A model cannot learn from an answer that does not score exactly 1.0 against itself. The index of
    a failure counts over all parts of the file. Raises the errors of `read_questions`.
    """
    check, places = RewardCheck(), count()

    def note_bad(bad: BadRecord) -> None:
        if bad.index is None:
            check.failures.append(RewardFailure(None, None, str(bad)))
        else:
            check.failures.append(RewardFailure(next(places), None, bad.reason))

    for question in read_questions(path, on_bad=note_bad):
        index = next(places)
        check.questions[question.problem_type] += 1
        reason = _why_not_right(question)
        if reason is None:
            check.right[question.problem_type] += 1
        else:
            check.failures.append(RewardFailure(index, question.id, reason))
    return check


def _why_not_right(question: Question) -> str | None:
    kind, answer = question.problem_type, question.answer
    score = accuracy(kind, answer, answer, question.options)
    if score == 1.0:
        return None
    if score is None:
        return f"{kind}: the reference answer {answer!r} {_UNSCORABLE[kind]}"
    return f"{kind}: the reference answer {answer!r} scores {score:.3f} against itself"
