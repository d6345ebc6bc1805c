"""From the scores of items to the numbers of a benchmark: its mean, and its parts by name.

Every number is {"mean", "low", "high", "n"} with a 95 % bootstrap interval; scores that are None
are unknown and left out. The mean of a benchmark is its official one; further conventions are parts
under their own names.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from p2r.evaluation.benchmarks import CHOICE_TYPES, NUMBER_TYPES, find_benchmark
from p2r.evaluation.items import Item
from p2r.evaluation.official import mra_of
from p2r.scoring import mean_interval, resample_means, to_interval

Interval = dict[str, Any]
DIRECTION = "object_rel_direction"
CHOICE, NUMBER = "multiple choice", "regression"


def measure(benchmark: str, items: Sequence[Item], extractor: str) -> dict[str, Any]:
    """The score of a benchmark by an extractor: an interval, and "parts" by name.

    Parts of the first axis of the benchmark have bare names; a name that an earlier axis has too is
    "axis: name".
    """
    scores = [item.score[extractor] for item in items]
    parts: dict[str, Interval] = {}
    for axis in find_benchmark(benchmark).axes:
        for name, values in sorted(_split(items, scores, axis).items()):
            parts[f"{axis}: {name}" if name in parts else name] = mean_interval(values)
    whole = mean_interval(scores)
    if benchmark == "vsibench":
        parts |= _vsibench_parts(items, scores, extractor)
        whole = parts.get("overall", parts["paper"])
    elif benchmark == "mvbench":
        parts["micro"] = whole
        parts["macro"] = mean_of_groups(list(_split(items, scores, "task").values()))
    elif benchmark == "vcrbench":
        parts |= chain_of_thought(items)
    return {**whole, "parts": parts}


def _split(
    items: Iterable[Item], scores: Iterable[float | None], axis: str
) -> dict[str, list[float | None]]:
    """The scores by the value of an axis."""
    groups: dict[str, list[float | None]] = defaultdict(list)
    for item, score in zip(items, scores, strict=True):
        if value := item.parts.get(axis):
            groups[value].append(score)
    return dict(groups)


def mean_of_groups(groups: Sequence[Sequence[float | None]], seed: int = 0) -> Interval:
    """The unweighted mean of the means of groups, resampled within each; empty ones are left out.

    n counts the items of all groups.
    """
    return _combine([_Group.of(values, seed + k) for k, values in enumerate(groups)])


class _Group:
    """A mean and its resampled means, so that means of means have intervals."""

    def __init__(self, mean: float, drawn: np.ndarray, n: int) -> None:
        self.mean, self.drawn, self.n = mean, drawn, n

    @classmethod
    def of(cls, values: Iterable[float | None], seed: int) -> _Group | None:
        known = np.array([v for v in values if v is not None and not math.isnan(v)], dtype=float)
        if not known.size:
            return None
        return cls(float(known.mean()), resample_means(known, seed), int(known.size))

    @classmethod
    def average(cls, groups: Sequence[_Group]) -> _Group:
        mean = sum(group.mean for group in groups) / len(groups)
        drawn = np.mean([group.drawn for group in groups], axis=0)
        return cls(mean, drawn, sum(group.n for group in groups))


def _combine(groups: Sequence[_Group | None]) -> Interval:
    known = [group for group in groups if group is not None]
    if not known:
        return mean_interval([])
    whole = _Group.average(known)
    return to_interval(whole.mean, whole.drawn, whole.n)


# ---- VSI-Bench


def _vsibench_parts(
    items: Sequence[Item], scores: Sequence[float | None], extractor: str
) -> dict[str, Interval]:
    """The official mean, the paper's mean, and MRA by every convention.

    - overall: the mean over question types, the direction types averaged first, as in the official
      code. Types that no item has are left out (the code counts an absent direction type as 0).
    - paper: the mean of the accuracy of choices and the MRA of numbers.
    - mra (official), mra_strict (`<`), mra_eleven (eleven thresholds).
    """
    by_type = _split(items, scores, "question type")
    groups = {name: _Group.of(by_type.get(name, ()), k) for k, name in enumerate(CHOICE_TYPES)}
    groups |= {
        name: _Group.of(by_type.get(name, ()), k + 50) for k, name in enumerate(NUMBER_TYPES)
    }
    directions = [groups.pop(name) for name in CHOICE_TYPES if name.startswith(DIRECTION)]
    known = [group for group in directions if group is not None]
    parts: dict[str, Interval] = {}
    if known:
        groups[DIRECTION] = _Group.average(known)
        parts[DIRECTION] = _combine([groups[DIRECTION]])
    if by_type:
        parts["overall"] = _combine(list(groups.values()))
    kinds = {kind: [] for kind in (CHOICE, NUMBER)}
    for item, score in zip(items, scores, strict=True):
        kinds.setdefault(item.problem_type, []).append(score)
    numbers = [item for item in items if item.problem_type == NUMBER]
    parts["accuracy"] = mean_interval(kinds[CHOICE])
    parts["mra"] = mean_interval(kinds[NUMBER])
    for convention in ("strict", "eleven"):
        parts[f"mra_{convention}"] = mean_interval(
            _other_mra(item, extractor, convention) for item in numbers
        )
    parts["paper"] = _combine([_Group.of(kinds[CHOICE], 90), _Group.of(kinds[NUMBER], 91)])
    return parts


def _other_mra(item: Item, extractor: str, convention: str) -> float | None:
    """MRA of an item by another convention, from what was read in its output."""
    if item.score[extractor] is None:
        return None
    read = item.extraction[extractor]
    return 0.0 if read is None else mra_of(float(read), float(item.truth), convention)


# ---- VCR-Bench

STEP_KINDS = {"Video Description Steps": "Video", "Logical Inference Steps": "logic"}


def chain_of_thought(items: Iterable[Item]) -> dict[str, Interval]:
    """Precision, recall and F1 of the judged reasoning steps (VCR-Bench, cau_total.py).

    `stored["steps"]` holds what the source kept: `Video_precision`, `logic_recall`,
    `overall_precision` and so on; an empty string is unknown. F1 is that of the mean precision and
    the mean recall, as in the script, and has no interval. Nothing without judged steps.
    """
    judged = [_numbers_of(item.stored["steps"]) for item in items if item.stored.get("steps")]
    parts: dict[str, Interval] = {}
    for kind in ("Video", "logic", "overall") if judged else ():
        pair = {
            what: mean_interval(
                value if isinstance(value := steps.get(f"{kind}_{what}"), int | float) else None
                for steps in judged
            )
            for what in ("precision", "recall")
        }
        parts |= {f"cot {kind.lower()} {what}": interval for what, interval in pair.items()}
        means = [interval["mean"] for interval in pair.values()]
        f1 = None if None in means else 2 * math.prod(means) / sum(means) if sum(means) else 0.0
        parts[f"cot {kind.lower()} f1"] = {"mean": f1, "low": None, "high": None, "n": len(judged)}
    return parts


def count_steps(steps: Sequence[Mapping[str, str]], what: str) -> dict[str, float | str]:
    """What a judge's list of steps amounts to: "recall" or "precision", by kind and overall.

    Steps are {"step_type", "judgment"}: for recall the reference's, "Matched" or "Unmatched"; for
    precision the response's, "Matched", "Wrong" or "Redundant". Background steps count in no
    number, nor do redundant ones. "" where there is nothing to count (VCR-Bench, eval.py).
    """
    bad = {"recall": "Unmatched", "precision": "Wrong"}[what]
    found: dict[str, float | str] = {}
    right = wrong = 0
    for kind, name in STEP_KINDS.items():
        said = [step.get("judgment") for step in steps if step.get("step_type") == kind]
        matched, missed = said.count("Matched"), said.count(bad)
        right, wrong = right + matched, wrong + missed
        found[f"{name}_{what}"] = matched / (matched + missed) if matched + missed else ""
    found[f"overall_{what}"] = right / (right + wrong) if right + wrong else ""
    return found


def _numbers_of(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The stored numbers of an item's steps; counted from a stored judgement where there are
    none.
    """
    numbers = dict(stored)
    for what in ("recall", "precision"):
        text = stored.get(f"{what}_eval")
        if f"overall_{what}" in stored or not isinstance(text, str):
            continue
        try:
            steps = json.loads(text[text.index("[") : text.rindex("]") + 1])
            numbers |= count_steps([step for step in steps if isinstance(step, dict)], what)
        except ValueError:  # a judge's reply that is no list: unknown
            continue
    return numbers
