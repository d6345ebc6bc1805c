"""VCR-Bench with all 1,034 questions, the open-ended ones too.

Official rule (eval.py): the authors ask an LLM, and a stored verdict of it counts. Without one:

- choices: exact match of the letter, as in `vcrbench`
- two time intervals "[start, end]": right if their overlap (IoU) is above 0.7
- two boxes of whole numbers "[x1, y1, x2, y2]": right if their overlap (IoU) is above 0.5
- other open-ended questions: unknown
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from p2r.evaluation.benchmark import Asked, Reading
from p2r.evaluation.benchmarks import vcrbench
from p2r.evaluation.rules import (
    apply_rule,
    match_letter,
    robust_by_type,
    score_by_type,
    tagged_answer,
)

SECONDS, PIXELS = 0.7, 0.5  # the overlap must be larger


def match(text: str, asked: Asked) -> Reading:
    """Score an output: a letter, an interval or a box. Other answers are unknown."""
    if asked.problem_type == "multiple choice":
        return match_letter(text, asked)
    return match_extracted(tagged_answer(text) or text, asked)


def match_extracted(text: str, asked: Asked) -> Reading:
    """Score an open-ended answer that its source extracted."""
    score = match_places(asked.truth, text)
    return Reading(None if score is None else text, score)


def match_places(truth: str, said: str) -> float | None:
    """Return whether two intervals or two boxes overlap enough; None if they are neither.

    Like in the script, an error while comparing scores 0, and so does an interval of no length.
    """
    try:
        if (right := _read_interval(truth)) and (given := _read_interval(said)):
            shared = max(0, min(right[1], given[1]) - max(right[0], given[0]))
            union = max(right[1], given[1]) - min(right[0], given[0])
            return float(union != 0 and shared / union > SECONDS)
        if (box := _read_box(truth)) and (other := _read_box(said)):
            return float(_overlap(box, other) > PIXELS)
    except (TypeError, ValueError, ArithmeticError):
        return 0.0
    return None


def _read_interval(text: str) -> Sequence[float] | None:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    pair = isinstance(value, list) and len(value) == 2
    return value if pair and all(isinstance(end, int | float) for end in value) else None


def _read_box(text: str) -> list[int] | None:
    pieces = text[1:-1].split(",")
    if not (text.startswith("[") and text.endswith("]") and len(pieces) == 4):
        return None
    try:
        return [int(piece.strip()) for piece in pieces]
    except ValueError:
        return None


def _overlap(one: list[int], other: list[int]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width < 0 or height < 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


def match_open(output: str, asked: Asked) -> Reading:
    """Score an open-ended answer by the official rule."""
    return apply_rule(match, output, asked, {})


BENCHMARK = replace(
    vcrbench.BENCHMARK,
    name="vcrbenchall",
    title="VCR-Bench (all questions)",
    subset="all 1,034",
    expected=1034,
    metric="accuracy by rules and stored verdicts; open answers without either are unknown",
    paper=None,
    read=vcrbench.read_any,
    score=score_by_type(match, match_extracted),
    robust=robust_by_type(match_open),
)
