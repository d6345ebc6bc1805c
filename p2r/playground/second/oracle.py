"""The oracle of the second world: do the sentences of an observation lead to the right answer?"""

from __future__ import annotations

from p2r.playground.second.language import read_notes
from p2r.playground.second.questions import kind_of
from p2r.playground.second.thinking import think_from
from p2r.records import Question
from p2r.scoring import accuracy

FOREIGN = "The oracle can judge only questions of the playground."


def judge_notes(question: Question, observation: str) -> tuple[bool | None, str]:
    """Return whether an observation is sufficient, and why. None: the question has another form."""
    if kind_of(question.problem) is None:
        return None, FOREIGN
    notes = read_notes(observation)
    if notes.unclear:
        names = ", ".join(sorted(notes.unclear))
        return False, f"The observation contradicts itself about {names}."
    thought = think_from(notes, question)
    if not thought.told:
        return False, f"Not deducible. {thought.think}"
    right = accuracy(question.problem_type, thought.answer, question.answer, question.options)
    if right != 1.0:
        return False, f"The observation leads to {thought.answer!r} instead. {thought.think}"
    return True, f"The observation leads to {thought.answer!r}, the correct answer."
