"""One question per record, in any usual spelling of the keys (Video-R1, MVBench, GRPO files …)."""

from __future__ import annotations

import re

from p2r.formats.shapes import Shape, rename
from p2r.formats.values import BadValue, Raw, blank, problem_type_of

IDS = ("question_id", "id", "qid", "uid", "index", "idx", "sample_id", "doc_id")
QUESTIONS = ("question", "query", "prompt", "instruction", "q")
ANSWERS = (
    *("ground_truth", "gt", "gt_answer", "correct_answer", "correct_option", "answer_text"),
    *("label", "target", "gold", "reference", "correct", "correct_choice", "answer_key"),
    *("answer_letter", "mc_answer", "gold_answer", "reference_answer", "gt_option"),
)
NAMES = {
    "problem_id": IDS,
    "problem": QUESTIONS,
    "options": ("choices", "candidates"),
    "solution": ANSWERS,
    "data_source": ("source",),
    "problem_type": ("question_type", "answer_type"),
}
_COLUMN = re.compile(
    r"(?:option|choice|opt)?[_ ]?([A-J])|(?:option|choice|opt|a)[_ ]?(\d)", re.IGNORECASE
)


def matches(record: Raw) -> bool:
    """Return whether the record has a text under one of the keys of a question."""
    return any(isinstance(record.get(key), str) for key in ("problem", *QUESTIONS))


def unify(record: Raw) -> Raw:
    """Return the record with the keys of Video-R1."""
    names = dict(NAMES)
    if "q" in record and "b" not in record:
        names["solution"] = (*ANSWERS, "a")
    if not blank(record.get("answer")) and blank(record.get("ground_truth")):
        del names["solution"]  # the answer is the reference
    if not _is_type(record):
        del names["problem_type"]
    unified = rename(record, names)
    if blank(unified.get("options")) and len(columns := _columns(record)) > 1:
        options = {label: record[key] for label, key in columns.items()}
        unified = {key: value for key, value in unified.items() if key not in columns.values()}
        unified["options"] = options
    return unified


def _is_type(record: Raw) -> bool:
    """Return whether the type that other data sets name is one of p2r's, not a topic."""
    try:
        problem_type_of(record.get("question_type") or record.get("answer_type"))
    except BadValue:
        return False
    return True


def _columns(record: Raw) -> dict[str, str]:
    """Return the columns with one option each, by label: A to J, option_a, option_0, a0 …"""
    found = {}
    for key in record:
        match = _COLUMN.fullmatch(key)
        if match and not blank(record[key]) and not isinstance(record[key], list | dict):
            label = match[1].upper() if match[1] else match[2]
            found[label] = key
    labels = sorted(found)
    first = labels[0] if labels else ""
    runs = all(ord(label) - ord(first) == place for place, label in enumerate(labels))
    if not runs or first not in ("A", "0", "1"):
        return {}
    return {chr(ord("A") + place): found[label] for place, label in enumerate(labels)}


SHAPE = Shape(
    name="one question per record",
    keys=f"problem or {', '.join(QUESTIONS)}",
    example={"question": "What?\nA. x\nB. y", "videos": ["v.mp4"], "answer": "B"},
    matches=matches,
    unify=unify,
    order=9,
)
