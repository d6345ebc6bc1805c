"""VCR-Bench: the rule of its authors, which is mostly an LLM's verdict.

Source: github.com/zhishuifeiqian/VCR-Bench, `eval_code/eval.py`, `cau_acc.py` and `cau_total.py`,
commit 4e564b7 (2025-07-15). eval.py was last changed there, the other two in 5821d78 (2025-04-10).

- GPT-4o first extracts the answer from the response, for all 1,034 questions, choices and open
  ones.
- Two time intervals "[start, end]": right if their IoU is above 0.7. Two boxes of four integers
  "[x1, y1, x2, y2]": right if their IoU is above 0.5. Everything else: GPT-4o says "1" or "0".
- An error while matching stores the NUMBER 0. `cau_acc.py` counts only the TEXT '1': the number 1,
  " 1" or "1." are wrong.
- An item that fails otherwise is dropped from the file, so it is in no mean.
- Accuracy: micro over the items of the file, by dimension, and by duration up to 60, up to 300 and
  above 300 seconds; a missing duration is 0 seconds.
- Reasoning steps: precision and recall per item, "" if there is nothing to count; means over items
  that have a number, 0 if no item has one; F1 of the two means.

Second source: VLMEvalKit e8e78f0 (2026-08-18) `dataset/vcrbench.py`, contributed by the authors. It
DIFFERS: GPT-4o scores intervals and boxes too, and items without a reply count with -1 (wrong).
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from authors_rules import Outcome


def match(answer: str, extracted: str) -> Outcome:
    """Return the outcome of intervals and boxes; for everything else an LLM is asked."""
    try:
        if (right := _interval(answer)) and (said := _interval(extracted)):
            return Outcome(float(_overlap(right, said) > 0.7), extracted)
        if (box := _box(answer)) and (given := _box(extracted)):
            return Outcome(float(_box_overlap(box, given) > 0.5), extracted)
    except Exception:  # the script catches every error and stores 0
        return Outcome(0.0)
    return Outcome(None, None, asks_llm=True)


def _interval(text: str) -> list[float] | None:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    pair = isinstance(value, list) and len(value) == 2
    return value if pair and all(isinstance(end, int | float) for end in value) else None


def _overlap(one: list[float], other: list[float]) -> float:
    shared = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    union = max(one[1], other[1]) - min(one[0], other[0])
    return shared / union if union else 0.0


def _box(text: str) -> list[int] | None:
    if not (text.startswith("[") and text.endswith("]")):
        return None
    parts = text[1:-1].split(",")
    try:
        return [int(part.strip()) for part in parts] if len(parts) == 4 else None
    except ValueError:
        return None


def _box_overlap(one: list[int], other: list[int]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide < 0 or high < 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * high / (areas - wide * high)


def score(answer_scoring: Any) -> Outcome:
    """Return the outcome of a stored verdict: only the text '1' is right."""
    return Outcome(float(isinstance(answer_scoring, str) and answer_scoring == "1"))


def duration_of(record: Mapping[str, Any]) -> str:
    """Return the name of the duration group."""
    seconds = record.get("duration", 0)
    return "0-60" if seconds <= 60 else "60-300" if seconds <= 300 else "300+"


def summarise(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Return the accuracy by (axis, name); ("", "overall") is the total."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records:
        value = score(record.get("answer_scoring")).score
        scores["", "overall"].append(value)
        scores["duration", duration_of(record)].append(value)
        if record.get("dimension"):
            scores["dimension", record["dimension"]].append(value)
    return {key: sum(values) / len(values) for key, values in scores.items()}


# ---- reasoning steps

_KINDS = ("Video Description Steps", "Logical Inference Steps", "Background Review Steps")
_NAMES = ("Video", "logic", "background")


def count_steps(reply: str, measure: str) -> dict[str, float | str]:
    """Return the numbers of one judge's reply: `measure` is "recall" or "precision".

    The list must be between "```json" with a newline and "```"; ValueError or KeyError means that
    the script asks again. Redundant steps count in no number; background steps not in "overall".
    """
    bad = {"recall": "Unmatched", "precision": "Wrong"}[measure]
    known = {"Matched", bad} | ({"Redundant"} if measure == "precision" else set())
    fenced = re.search("```json\n(.*?)```", reply, re.DOTALL)
    if fenced is None:
        raise ValueError("no JSON between backticks")
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in _KINDS}
    for step in json.loads(fenced.group(1)):
        if step["judgment"] not in known:
            raise KeyError(step["judgment"])
        counts[step["step_type"]][step["judgment"]] += 1
    pairs = [(counts[kind]["Matched"], counts[kind][bad]) for kind in _KINDS]
    overall = tuple(map(sum, zip(*pairs[:2], strict=True)))
    return {
        f"{name}_{measure}": pair[0] / sum(pair) if sum(pair) else ""
        for name, pair in zip((*_NAMES, "overall"), (*pairs, overall), strict=True)
    }


def summarise_steps(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return precision, recall and F1 for "Video", "logic" and "overall"."""
    records = list(records)
    found = {}
    for name in ("Video", "logic", "overall"):
        means = {}
        for measure in ("precision", "recall"):
            values = [record.get(f"{name}_{measure}", "") for record in records]
            known = [value for value in values if value != ""]
            means[measure] = sum(known) / len(known) if known else 0.0
        both = means["precision"] + means["recall"]
        f1 = 2 * means["precision"] * means["recall"] / both if both else 0.0
        found[name] = {**means, "f1": f1}
    return found
