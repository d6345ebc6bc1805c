"""Metrics of the two processes, perception and reasoning, over answered questions.

Pure functions over `Case`s. Unknown values (no verdict, no score) are left out, and n is smaller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from p2r.evaluation.metrics import Clips
from p2r.records import Case
from p2r.scoring.thoughts import mismatch, perception_by_answer
from p2r.template import SEGMENTS, parse

Key = Callable[[Case], str | None]
_OUTCOMES = ("right", "wrong")


def process_metrics(cases: Sequence[Case]) -> dict[str, Any]:
    """Return all metrics: format, lengths, perception accuracy, mismatch and the 2 × 2 table."""
    return {
        "format": format_rates(cases),
        "lengths": segment_lengths(cases),
        "perception accuracy": perception_accuracy(cases),
        "mismatch": _clips(cases).interval(
            None if (m := mismatch(c)) is None else float(m) for c in cases
        ),
        "perception by answer": perception_by_answer(cases),
        "perception by answer, shares": perception_by_answer_shares(cases),
    }


def perception_by_answer_shares(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """Return the share of each cell of the 2 × 2 table among the cases with both values known."""
    tables = [perception_by_answer([case]) for case in cases]
    cells = [(row, column) for row in ("sufficient", "insufficient") for column in _OUTCOMES]
    known = [any(table[row][column] for row, column in cells) for table in tables]
    clips = _clips(cases)
    return {
        f"{row}, {column}": clips.interval(
            float(table[row][column]) if one else None
            for table, one in zip(tables, known, strict=True)
        )
        for row, column in cells
    }


def format_rates(cases: Sequence[Case]) -> dict[str, Any]:
    """Return the share of responses with the right format, per process and for both.

    "faults" counts the format errors by kind.
    """
    parsed = [parse(case.trace.text) for case in cases]
    clips = _clips(cases)
    rates = {
        process: clips.interval(float(p.format_ok[process]) for p in parsed)
        for process in ("perception", "reasoning")
    }
    faults = Counter(fault for p in parsed for fault in p.problems)
    return {**rates, "both": clips.interval(float(p.ok) for p in parsed), "faults": dict(faults)}


def segment_lengths(cases: Sequence[Case]) -> dict[str, dict[str, float | int | None]]:
    """Return the words per segment and tokens per process: mean, median, 5th and 95th percentile.

    n counts the responses that have the segment, or whose tokens were counted.
    """
    lengths: dict[str, list[int]] = {name: [] for name in (*SEGMENTS, "tokens P", "tokens R")}
    for case in cases:
        trace = case.trace
        for name in SEGMENTS:
            if (text := getattr(trace, name)) is not None:
                lengths[name].append(len(text.split()))
        if trace.perception_tokens is not None and trace.completion_tokens is not None:
            lengths["tokens P"].append(trace.perception_tokens)
            lengths["tokens R"].append(trace.completion_tokens - trace.perception_tokens)
    return {name: _spread(values) for name, values in lengths.items()}


def _spread(values: Sequence[int]) -> dict[str, float | int | None]:
    if not values:
        return {"mean": None, "median": None, "p5": None, "p95": None, "n": 0}
    p5, median, p95 = np.quantile(values, [0.05, 0.5, 0.95])
    return {
        "mean": float(np.mean(values)),
        "median": float(median),
        "p5": float(p5),
        "p95": float(p95),
        "n": len(values),
    }


def perception_accuracy(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """Return, by judge, the share of sufficient observations among those it judged."""

    def judge(case: Case) -> str | None:
        return None if case.verdict is None else case.verdict.judge or "no observation"

    def sufficient(case: Case) -> float | None:
        known = None if case.verdict is None else case.verdict.sufficient
        return None if known is None else float(known)

    return split_by(cases, judge, sufficient)


def split_by(
    cases: Sequence[Case], key: Key, metric: Callable[[Case], float | None]
) -> dict[str, dict[str, Any]]:
    """Return the mean of a metric per part of the cases, for example per difficulty (Table 7).

    `key` returns the part of a case, or None: `lambda c: part_of(c, "duration")`.
    """
    parts: dict[str, list[Case]] = {}
    for case in cases:
        if (name := key(case)) is not None:
            parts.setdefault(name, []).append(case)
    return {
        name: _clips(members).interval(map(metric, members))
        for name, members in sorted(parts.items())
    }


def _clips(cases: Sequence[Case]) -> Clips:
    return Clips(case.question.path for case in cases)


def part_of(case: Case, axis: str) -> str | None:
    """Return the value of a case's question on an axis of its benchmark, or None."""
    return case.question.meta.get("parts", {}).get(axis)
