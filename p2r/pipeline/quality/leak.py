"""Drop observations that state the answer, or that contain most of the think text."""

from __future__ import annotations

import re

from p2r.pipeline.quality import Kept
from p2r.records import Case, Question
from p2r.scoring.answers import extract_choice

ORDER = 1
QUOTED = 8  # so many equal words in a row count as a quotation

_FILLER = (
    r"(?:\s+(?:is|are|was|would|should|must|be|the|of|to|letter|number|option|choice|clearly))"
)
_NAMED = re.compile(
    rf"\b(?i:answers?|options?|choices?)\b(?i:{_FILLER}){{0,5}}\s*[:=]?\s*[(\[\"'*]{{0,3}}"
    r"([A-Z])(?![\w'’])"
)
_CALLED_RIGHT = re.compile(
    r"(?<![\w'’])\(?([A-Z])[).]?\s+(?i:is|would be|must be|seems)\s+(?i:the\s+)?"
    r"(?i:correct|right|best|answer)\b"
)
_STATED = re.compile(
    r"\bthe\s+(?:(?:correct|right|final|best)\s+)?answer\s+(?:is|was|would be|must be|should be)\b"
    r"|<answer>|\\boxed\b",
    re.IGNORECASE,
)


def find_leak(case: Case) -> str | None:
    """Return how an observation gives the answer away, or None.

    Text on the screen ("a sign that says B") is not a leak: the text must call it the answer.
    """
    observation = case.trace.observation or ""
    if _STATED.search(observation):
        return "it states an answer"
    letter = _letter(case.question)
    if letter and letter in _NAMED.findall(observation) + _CALLED_RIGHT.findall(observation):
        return f"it names option {letter}"
    thought = _runs(case.trace.think or "")
    if thought and 2 * len(thought & _runs(observation)) > len(thought):
        return "it holds most of the think text"
    return None


def _letter(question: Question) -> str | None:
    if question.problem_type != "multiple choice":
        return None
    return extract_choice(question.answer, question.options or None)


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + QUOTED]) for i in range(len(words) - QUOTED + 1)}


def find_drops(kept: Kept, _: bool) -> list[str]:
    """Return the keys of leaking traces."""
    return [key for key, case in kept if find_leak(case)]
