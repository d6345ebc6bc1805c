"""VSI-Bench: the rule of its authors.

Source: github.com/vision-x-nyu/thinking-in-space, `lmms_eval/tasks/vsibench/utils.py`, commit
51e089c (2025-08-05); the file was last changed in c26ba54 (2025-07-02, logging only).

- The prediction is cut at the first single space, loses full stops at its end, then white space. It
  is NOT stripped first: " B" is "". Tabs and newlines do not cut.
- Choices: equal to the reference without case, else 0.
- Numbers: float() of the word, then MRA over ten thresholds with `<=`. An unreadable number scores
  0. The error is divided by the reference, with its sign. A reference of 0 stops the script.
- No LLM, nothing is left out. Means are per question type; the three direction types are averaged
  first; "overall" is the mean over the resulting types (macro).

Second source: lmms-eval 75571cf (2026-08-06) reads numbers with its own `extract_number`, which
finds digits and number words anywhere. It DIFFERS from the authors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from authors_rules import Outcome, ScriptFails

CHOICES = (
    *("object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard"),
    *("object_rel_distance", "route_planning", "obj_appearance_order"),
)
NUMBERS = (
    *("object_abs_distance", "object_counting", "object_size_estimation"),
    "room_size_estimation",
)
_BORDERS = 1 - np.linspace(0.5, 0.95, 10)


def read(output: str) -> str:
    """Return the word that the script compares."""
    return output.partition(" ")[0].rstrip(".").strip()


def score(question_type: str, output: str, truth: str) -> Outcome:
    """Return accuracy or MRA of one prediction."""
    word = read(output)
    if question_type in CHOICES:
        return Outcome(float(word.lower() == truth.lower()), word or None)
    if question_type not in NUMBERS:
        raise ScriptFails(f"question type {question_type!r}")
    given, right = _number(word), _number(truth)
    if given is None or right is None:
        return Outcome(0.0)
    if right == 0:
        raise ScriptFails("a reference of 0")
    error = abs(given - right) / right
    return Outcome(float((error <= _BORDERS).mean()), word)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def summarise(items: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the percent by question type and "overall". Items are (question type, score).

    Types without items are absent. With an easy direction item but no medium or no hard one the
    script stops; without an easy one the direction types count singly.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for kind, value in items:
        scores[kind].append(value)
    means = {kind: sum(values) / len(values) for kind, values in scores.items()}
    if "object_rel_direction_easy" in means:
        levels = [means.pop(name, None) for name in CHOICES[:3]]
        if None in levels:
            raise ScriptFails("a direction type without items")
        means["object_rel_direction"] = sum(levels) / 3
    means["overall"] = sum(means.values()) / len(means)
    return {kind: 100 * value for kind, value in means.items()}
