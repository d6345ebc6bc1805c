"""The funnel of the filter: how many traces reach each step of the pipeline.

Unknown never counts as wrong: a case without a score or a verdict has its own column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from p2r.records import RIGHT_ACCURACY, Case, Verdict
from p2r.template import parse

# The steps of the filter in order. Each counts the traces that passed this step and all before it.
FUNNEL_STEPS = ("generated", "on template", "right answer", "sufficient observation", "kept")
UNKNOWN = ("unreadable", "answer unknown", "verdict unknown")
# A record of the question file that cannot be used. A row has this count if there were any.
BAD_RECORD = "bad record"


def funnel_step(case: Case, min_accuracy: float = RIGHT_ACCURACY) -> str:
    """Return the last step of `FUNNEL_STEPS` that a case reaches.

    If something unknown stops the case, return its entry of `UNKNOWN` instead.
    """
    if not parse(case.trace.text).ok:
        return "generated"
    if case.accuracy is None:
        return "answer unknown"
    if case.accuracy < min_accuracy:
        return "on template"
    return verdict_step(case.verdict)


def verdict_step(verdict: Verdict | None) -> str:
    """Return the funnel step of a right answer on the template, given the judge's verdict."""
    if verdict is None or verdict.sufficient is None:
        return "verdict unknown"
    return "kept" if verdict.sufficient else "right answer"


def funnel(
    steps: Iterable[tuple[str | None, str]] | Counter[tuple[str | None, str]],
    quality: Sequence[str] = (),
) -> dict[str, dict[str, int]]:
    """Count the traces that reach each step, per problem type and for all of them.

    `steps` holds pairs (problem type, result of `funnel_step`), or counts of such pairs. A problem
    type of None (a record that cannot be read) counts only in "all". `quality` names the quality
    filters that were on. Each of them counts the traces with a sufficient observation that it
    dropped.

    Returns {problem type or "all": {step: traces that reached it, unknown: traces it stopped}}.
    """
    reached = {
        BAD_RECORD: 0,
        "unreadable": 0,
        "generated": 1,
        "answer unknown": 2,
        "on template": 2,
        "verdict unknown": 3,
        "right answer": 3,
        **dict.fromkeys(quality, 4),
        "kept": 5,
    }
    ends = Counter(steps)
    further = [*quality, *([BAD_RECORD] if (None, BAD_RECORD) in ends else [])]
    types = sorted({problem_type for problem_type, _ in ends if problem_type is not None})
    table: dict[str, dict[str, int]] = {}
    for name in [*types, "all"]:
        row = dict.fromkeys((*FUNNEL_STEPS, *UNKNOWN, *further), 0)
        for (problem_type, end), count in ends.items():
            if name not in (problem_type, "all"):
                continue
            for step in FUNNEL_STEPS[: reached[end]]:
                row[step] += count
            if end in UNKNOWN or end in further:
                row[end] += count
        table[name] = row
    return table
