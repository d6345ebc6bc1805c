"""Checks of what a run is built on, each with its findings as data; `p2r doctor` prints them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from p2r.formats import BadRecord, read_questions
from p2r.records import Question
from p2r.scoring import accuracy

# Why a reference answer of a type cannot be scored.
_UNSCORABLE = {
    "multiple choice": "names none of the options",
    "numerical": "is no single number",
    "regression": "is no single number",
    "free-form": "is empty",
}
_SHOWN = 20  # failures in the report; all are in `RewardCheck.failures`


@dataclass(frozen=True)
class RewardFailure:
    """A reference answer that does not earn 1.0, or what cannot be read: a record, a whole part.

    A record that cannot be read has no `id`, a part that is missing no `index` either.
    """

    index: int | None
    id: str | None
    reason: str

    def __str__(self) -> str:
        place = "" if self.index is None else f"record {self.index}"
        name = "" if self.id is None else f" (id {self.id})"
        return ": ".join(filter(None, (place + name, self.reason)))


@dataclass
class RewardCheck:
    """What `check_rewards` found: questions and right ones by problem type, and the failures.

    True in a condition if the check is passed; as a string the report, one line per finding.
    """

    questions: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    failures: list[RewardFailure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """There are questions, and every one earns exactly 1.0."""
        return bool(self.questions) and not self.failures

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        counts = [
            f"{kind}: {self.right[kind]} of {number} reference answers earn 1.0"
            for kind, number in sorted(self.questions.items())
        ] or ["no question could be read"]
        shown = [str(failure) for failure in self.failures[:_SHOWN]]
        hidden = len(self.failures) - len(shown)
        return "\n".join(counts + shown + ([f"… and {hidden} more"] if hidden else []))


def check_rewards(path: str | Path) -> RewardCheck:
    """Score the reference answer of every question of a file as if a model had given it.

    An answer that does not earn exactly 1.0 against itself can never be learnt from. Failures carry
    the index over all parts of the file. Raises as `read_questions`.
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
