"""Perception transfer (Table 5): how well does a model answer from another model's observation?

The reading model gets four inputs: the question's text, the text with an observation, the video, or
the video with an observation. The observation is text in front of the question. Without the video,
the question has no media.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from p2r.errors import UserError
from p2r.evaluation.benchmark import Item
from p2r.evaluation.identity import plain
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
    answered, readable = find_items(questions, result), observations_of(questions, result)
    reasons = {
        "left out: the source did not answer": [q for q in questions if q.id not in answered],
        "left out: no readable observation": [
            q for q in questions if q.id in answered and q.id not in readable
        ],
    }
    return {reason: len(found) for reason, found in reasons.items() if found}


def observations_of(questions: Sequence[Question], result: Result) -> dict[str, str]:
    """Return the observations in a model's result, by the ids of the questions.

    See `find_items` for how questions and items are joined.
    """
    found = find_items(questions, result)
    texts = ((identity, item.trace.get("observation")) for identity, item in found.items())
    return {identity: text for identity, text in texts if text}


def find_items(questions: Sequence[Question], result: Result) -> dict[str, Item]:
    """Return the item of each question, by the question's id.

    A question and its item have the same id and the same text, but one of the texts may have more
    words, such as a request for a letter. If several items fit, the clip, the options and the whole
    id decide.
    """
    by_id: dict[str, list[Item]] = defaultdict(list)
    for item in result.items:
        by_id[_own_id(item.id)].append(item)
    found = {q.id: _choose(q, by_id[_own_id(q.id)]) for q in questions}
    return {identity: item for identity, item in found.items() if item is not None}


def _own_id(identity: str) -> str:
    """Return an id without the "#2" or "~HASH" that tells several questions of one id apart."""
    return re.sub(r"(?<=.)(?:#\d+|~[0-9a-f]{6,})$", "", identity)


def _choose(question: Question, items: Sequence[Item]) -> Item | None:
    asked = plain(question.problem)
    same = [i for i in items if (p := plain(i.problem)) in asked or asked in p]
    for fits in (
        lambda item: item.clip == question.path,
        lambda item: item.options == question.options,
        lambda item: item.id == question.id,
    ):
        if len(same) > 1:
            same = [item for item in same if fits(item)] or same
    return same[0] if len(same) == 1 else None
