"""Perception transfer (Table 5): how well does a reader answer from another model's observation?

Four inputs for any reader model: the text of the question alone, text and the observation of A,
the video, the video and the observation of A. The observation stands before the question as text;
where it is all there is, the question has no media.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2r.evaluation.results import Result
from p2r.records import Question

INPUTS = ("text", "text + observation", "video", "video + observation")
PREFACE = "What someone noticed in the {media}:\n{observation}\n\n"


def transfer_questions(
    questions: Sequence[Question], observations: Mapping[str, str], given: str
) -> list[Question]:
    """The questions as one of `INPUTS` puts them; only those with an observation, so that all four
    inputs are compared on the same questions. Raises ValueError for an unknown input.
    """
    if given not in INPUTS:
        raise ValueError(f"no input {given!r}: use one of {', '.join(INPUTS)}")
    return [
        _present(question, observations[question.id], given)
        for question in questions
        if observations.get(question.id)
    ]


def _present(question: Question, observation: str, given: str) -> Question:
    changes: dict[str, str] = {}
    if "observation" in given:
        preface = PREFACE.format(media=question.data_type, observation=observation.strip())
        changes["problem"] = preface + question.problem
    if not given.startswith("video"):
        changes["path"] = ""
    return question.model_copy(update=changes)


def observations_of(result: Result) -> dict[str, str]:
    """The observations in a model's result file, by the id of the question."""
    found = ((item.id, item.trace.get("observation")) for item in result.items)
    return {identity: text for identity, text in found if text}
