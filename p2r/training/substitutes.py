"""Draws other questions for a step, to replace unreadable questions and collapsed groups.

A training opens only its first questions before it starts. The others are opened when their step
needs them, so a training on a large data set starts without a long wait. All draws depend only on
seed, step and the place of the group in the step, so a resumed training draws the same questions.
The worker with the first row of a group draws for the group and tells the others. So all workers
ask the same question, even if only one of them can read its video.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object

from p2r import data
from p2r.errors import DataError, TrainingError
from p2r.records import Question
from p2r.template import build_prompt
from p2r.training.rl_checks import find_no_reward
from p2r.training.stage import together
from p2r.training.step import FramesOf


def find_fault(question: Question, frames_of: FramesOf, style: str, processor: Any) -> str | None:
    """Return why RL cannot ask a question; None if it can. Opens the video of the question."""
    if reason := find_no_reward(question):
        return reason
    try:
        build_prompt(question, style)
        data.check_frames(processor, question, frames_of(question))
    except DataError as error:
        return str(error)
    return None


class Substitutes:
    """Draws questions of `pool` for the groups of a step.

    `find_fault` returns why a question cannot be asked, or None (see `find_fault` above). `on_skip`
    gets each question that cannot be asked, with the reason.
    """

    def __init__(
        self,
        pool: Sequence[Question],
        seed: int,
        find_fault: Callable[[Question], str | None],
        on_skip: Callable[[Question, str], None],
    ) -> None:
        self.pool, self.seed, self.find_fault = pool, seed, find_fault
        self.on_skip = on_skip
        self._faulty: set[str] = set()
        self._step, self._groups = 0, 1
        self._mine: set[int] = set()  # the places of the groups that this worker draws for
        self._planned: set[str] = set()
        self._left: dict[int, Iterator[Question]] = {}

    def fill(
        self, questions: Sequence[Question], step: int, first_row: int, group_size: int
    ) -> list[Question]:
        """Begin a step: return its questions, one for each row, with unreadable questions replaced.

        `first_row` is the place of this worker's first row. All workers must call this together.
        Raises `TrainingError` on all workers if no question is left.
        """
        everyone = gather_object([question.id for question in questions])
        self._step, self._groups = step, len(everyone) // group_size
        self._planned, self._left = set(everyone), {}
        rows = range(first_row, first_row + len(questions))
        asked = {
            row // group_size: question
            for row, question in zip(rows, questions, strict=True)
            if row % group_size == 0
        }
        self._mine = set(asked)
        chosen: dict[int, Question] = {}
        with together():
            for place, question in asked.items():
                readable = self._readable(question)
                chosen[place] = question if readable else self._instead(question, place)
        chosen = _of_all_workers(chosen)
        return [chosen[row // group_size] for row in rows]

    def draw_all(self, places: Iterable[int]) -> dict[int, Question]:
        """Return another question for each of these groups that has one left, see `draw`.

        All workers must call this together, with the same places.
        """
        drawn = ((place, self.draw(place)) for place in places if place in self._mine)
        return _of_all_workers({place: other for place, other in drawn if other is not None})

    def draw(self, place: int) -> Question | None:
        """Return another question for the group at `place`; None if there is none.

        No two groups of a step get the same question.
        """
        if place not in self._left:
            self._left[place] = self._candidates(place)
        return next(self._left[place], None)

    def _candidates(self, place: int) -> Iterator[Question]:
        """Yield the questions that only the group at `place` may draw."""
        return filter(self._readable, self._others()[place :: self._groups])

    def _others(self) -> list[Question]:
        """Return all questions that are not planned for the step, in the order of the step."""
        digest = hashlib.sha256(f"{self.seed}/{self._step}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        order = torch.randperm(len(self.pool), generator=generator).tolist()
        drawn = (self.pool[index] for index in order)
        return [question for question in drawn if question.id not in self._planned]

    def _instead(self, question: Question, place: int) -> Question:
        if (other := self.draw(place)) is not None:
            return other
        for other in [*self._others(), *self.pool]:  # the step may then have a question twice
            if self._readable(other):
                return other
        raise TrainingError(
            f"the video of question {question.id!r} cannot be read, and no other question is left: "
            "see skipped.jsonl"
        )

    def _readable(self, question: Question) -> bool:
        if question.id in self._faulty:
            return False
        if (reason := self.find_fault(question)) is None:
            return True
        self._faulty.add(question.id)
        self.on_skip(question, reason)
        return False


def _of_all_workers(mine: Mapping[int, Question]) -> dict[int, Question]:
    """Return the questions of all workers by place. All workers must call this together."""
    everyone = {place: asked for part in gather_object([mine]) for place, asked in part.items()}
    return dict(sorted(everyone.items()))
