"""What traces show: the filter's funnel, think-answer mismatch, perception x answer.

Pure functions over `Case`s. Unknown is never counted as wrong: a case without a score or a verdict
has its own column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from p2r.records import RIGHT_ACCURACY, Case, Verdict
from p2r.scoring.answers import extract_choice
from p2r.scoring.conclusions import think_choice
from p2r.template import parse

# The steps of the filter in order; each counts the traces that passed it and all before it.
FUNNEL_STEPS = ("generated", "on template", "right answer", "sufficient observation", "kept")
UNKNOWN = ("unreadable", "answer unknown", "verdict unknown")
# A record of the file of questions that cannot be used; a row has it where there were any.
BAD_RECORD = "bad record"


def funnel_step(case: Case, min_accuracy: float = RIGHT_ACCURACY) -> str:
    """The last step of `FUNNEL_STEPS` that a case reaches, or the unknown of `UNKNOWN` that stops
    it there.
    """
    if not parse(case.trace.text).ok:
        return "generated"
    if case.accuracy is None:
        return "answer unknown"
    if case.accuracy < min_accuracy:
        return "on template"
    return verdict_step(case.verdict)


def verdict_step(verdict: Verdict | None) -> str:
    """`funnel_step` of a right answer on the template, by what the judge said."""
    if verdict is None or verdict.sufficient is None:
        return "verdict unknown"
    return "kept" if verdict.sufficient else "right answer"


def funnel(
    steps: Iterable[tuple[str | None, str]] | Counter[tuple[str | None, str]],
    quality: Sequence[str] = (),
) -> dict[str, dict[str, int]]:
    """Counts per problem type, and in all, from (problem type, where a case ended: see
    `funnel_step`), one each or counted; a problem type None (a record that cannot be read) counts
    in all only.

    Returns {problem type or "all": {step: traces that reached it, …, unknown: traces stopped by
    it}}. `quality`: names of the filters beyond the paper that were on; each has its count, of the
    traces with a sufficient observation that it dropped.
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


def perception_by_answer(
    cases: Iterable[Case], min_accuracy: float = RIGHT_ACCURACY
) -> dict[str, dict[str, int]]:
    """The 2 x 2: {"sufficient" | "insufficient" | "unknown": {"right" | "wrong" | "unknown":
    cases}}.
    """
    table = {
        row: dict.fromkeys(("right", "wrong", "unknown"), 0)
        for row in ("sufficient", "insufficient", "unknown")
    }
    for case in cases:
        sufficient = case.verdict.sufficient if case.verdict else None
        row = {True: "sufficient", False: "insufficient", None: "unknown"}[sufficient]
        right = None if case.accuracy is None else case.accuracy >= min_accuracy
        table[row][{True: "right", False: "wrong", None: "unknown"}[right]] += 1
    return table


def mismatch(case: Case) -> bool | None:
    """Does the answer differ from what the thinking ended on? None where that cannot be said.

    Multiple choice only, by rule (see `think_choice`); None without a choice in either segment.
    The paper reads the think segment with an LLM; this rule costs nothing and is exact on clear
    endings.
    """
    question, trace = case.question, case.trace
    if question.problem_type != "multiple choice" or not trace.think or trace.answer is None:
        return None
    thought = think_choice(trace.think, question.options)
    answered = thought and extract_choice(trace.answer, question.options)
    return None if answered is None else thought != answered


def mismatch_tags(case: Case) -> list[str]:
    """The tag by which a mismatch is found among cases: every stage that scores cases writes it."""
    return ["mismatch"] if mismatch(case) else []
