"""Poses: other ways to ask the questions of a view.

Questions of the playground are posed in the form that its tiny models have learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2r.errors import UserError
from p2r.evaluation.transfer import transfer_questions
from p2r.playground import truth
from p2r.playground.second.language import read_sentence
from p2r.playground.second.questions import kind_of, notice
from p2r.records import BEGIN, WINDOW, Question
from p2r.studies.base import Answers

PLAYGROUND = "playground"


@dataclass(frozen=True)
class Given:
    """Perception transfer (Table 5): a model reads text, a video, or one of them with notes.

    `given` is one of `p2r.evaluation.transfer.INPUTS`. The arm `by` wrote the observations in
    the view `view`; None: the model itself wrote them. Questions without an observation are left
    out.
    """

    given: str
    by: str | None = None
    view: str = "test"

    @property
    def needs(self) -> tuple[tuple[str, str | None], ...]:
        return ((self.view, self.by),)

    def __call__(self, questions: Sequence[Question], answers: Answers) -> list[Question]:
        cases = answers(self.view, self.by)
        told = {
            case.question.id: case.trace.observation for case in cases if case.trace.observation
        }
        posed = transfer_questions(questions, {k: v for k, v in told.items() if v}, self.given)
        plain = {question.id: question.problem for question in questions}
        for question in posed if "observation" in self.given else ():
            if question.source == PLAYGROUND:
                notes = " ".join(truth.split_sentences(told[question.id] or ""))
                question.problem = f"{notes} {plain[question.id]}"
        return posed


@dataclass(frozen=True)
class FalseNote:
    """The response begins with an observation that contradicts the video (split `false_notes`).

    So the model only thinks and answers. Does the answer follow the note or the video?
    """

    observes: ClassVar[bool] = False
    needs: tuple[tuple[str, str | None], ...] = ()

    def __call__(self, questions: Sequence[Question], answers: Answers) -> list[Question]:
        return [begin_with(question, str(question.meta["note"])) for question in questions]


def begin_with(question: Question, sentences: str) -> Question:
    """Return a question whose response begins with an observation of these sentences."""
    first = f"{notice(question.problem)} " if kind_of(question.problem) else ""
    begin = f"<observation>{first}{sentences}</observation>"
    return question.model_copy(update={"meta": {**question.meta, BEGIN: begin}})


@dataclass(frozen=True)
class Windows:
    """Asks every question about each part of its video separately; see `FromWindows`."""

    count: int
    seconds: float
    needs: tuple[tuple[str, str | None], ...] = ()

    def __call__(self, questions: Sequence[Question], answers: Answers) -> list[Question]:
        return [
            question.model_copy(
                update={
                    "id": f"{question.id} window {place}",
                    "meta": {
                        **question.meta,
                        WINDOW: {
                            "start": place * self.seconds,
                            "end": (place + 1) * self.seconds - 0.2,
                        },
                    },
                }
            )
            for question in questions
            for place in range(self.count)
        ]


@dataclass(frozen=True)
class FromWindows:
    """The response begins with the observations of all windows, joined; the video is not shown.

    Each sentence is told once. "The object cannot be seen" is told only if no window sees the
    object. Memory does not grow with the length of the video.
    """

    view: str = "windows"

    @property
    def needs(self) -> tuple[tuple[str, str | None], ...]:
        return ((self.view, None),)

    def __call__(self, questions: Sequence[Question], answers: Answers) -> list[Question]:
        told: dict[str, dict[str, None]] = {question.id: {} for question in questions}
        for case in answers(self.view):
            sentences = truth.split_sentences(case.trace.observation or "")
            told[case.question.id.rpartition(" window ")[0]].update(dict.fromkeys(sentences))
        posed = [
            begin_with(question, join_windows(told[question.id])).model_copy(update={"path": ""})
            for question in questions
            if told[question.id]
        ]
        if not posed:
            raise UserError(
                "no response about a window has a readable observation: use a model that writes "
                "<observation>"
            )
        return posed


def join_windows(sentences: Iterable[str]) -> str:
    """Return the sentences of all windows, without those that another window proves wrong."""
    facts = {sentence: read_sentence(sentence) for sentence in sentences}
    seen = {
        fact.name for fact in facts.values() if fact and not isinstance(fact, str) and fact.seen
    }

    def lost(sentence: str) -> bool:
        fact = facts[sentence]
        return not (fact is None or isinstance(fact, str) or fact.seen) and fact.name in seen

    return " ".join(sentence for sentence in facts if not lost(sentence))
