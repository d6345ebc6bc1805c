"""Perception transfer (Table 5): how well does a model answer from another model's observation?

The reading model gets four inputs: the question's text, the text with an observation, the video, or
the video with an observation. The observation is text in front of the question. Without the video,
the question has no media.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2r.errors import UserError
from p2r.evaluation.results import Result
from p2r.records import Question

INPUTS = ("text", "text + observation", "video", "video + observation")
PREFACE = "What someone noticed in the {media}:\n{observation}\n\n"


def transfer_questions(
    questions: Sequence[Question], observations: Mapping[str, str], given: str
) -> list[Question]:
    """Return the questions with the given one of `INPUTS`.

    Questions without an observation are left out, so that all inputs have the same questions
    (`count_left_out` counts them). Raises `UserError` for an unknown input.
    """
    if given not in INPUTS:
        raise UserError(f"no input {given!r}: use one of {', '.join(INPUTS)}")
    return [
        _present(question, observations[question.id], given)
        for question in questions
        if observations.get(question.id)
    ]


def _present(question: Question, observation: str, given: str) -> Question:
    changes: dict[str, str] = {}
    if "observation" in given:
        preface = PREFACE.format(media=question.media_word, observation=observation.strip())
        changes["problem"] = preface + question.problem
    if not given.startswith("video"):
        changes["path"] = ""
    return question.model_copy(update=changes)


def count_left_out(questions: Sequence[Question], result: Result) -> dict[str, int]:
    """Return how many questions have no observation in a result, by reason."""
    answered, readable = {item.id for item in result.items}, observations_of(result)
    reasons = {
        "left out: the source did not answer": [q for q in questions if q.id not in answered],
        "left out: no readable observation": [
            q for q in questions if q.id in answered and q.id not in readable
        ],
    }
    return {reason: len(found) for reason, found in reasons.items() if found}


def observations_of(result: Result) -> dict[str, str]:
    """Return the observations in a model's result, by the question's id."""
    found = ((item.id, item.trace.get("observation")) for item in result.items)
    return {identity: text for identity, text in found if text}
