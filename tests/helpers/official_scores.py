"""The official scores of p2r for the questions of `odd_spellings`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from odd_spellings import Asked

from p2r.evaluation import benchmark as records
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.records import read_fields
from p2r.evaluation.rules import letter_of
from p2r.evaluation.score import measure, score_item


def read_item(asked: Asked, output: str, stored: dict[str, Any] | None = None) -> Any:
    """Return the item of a question and an output, read from the record of the official file."""
    fields = _fields(asked)
    return records.Item.of(fields, fields.id or "0", output, stored)


@lru_cache(maxsize=1024)
def _fields(asked: Asked) -> Any:
    return read_fields(find_benchmark(asked.benchmark), asked.record, asked.task)


def score_both(item: Any, benchmark: str) -> float | None:
    """Score an item by both extractors, like p2r does; return the official score."""
    score_item(benchmark, item)
    return item.score["official"]


def score_officially(item: Any, benchmark: str) -> float | None:
    """Return the official score of an item. This skips the robust one, which takes longer."""
    options = tuple(item.options)
    choice = item.problem_type == "multiple choice"
    letter = letter_of(item.truth, options) if choice else None
    task = item.parts.get("task", "")
    asked = records.Asked(item.truth, item.problem_type, options, task, letter)
    return find_benchmark(benchmark).score(item.output, asked, item.stored).score


def official_parts(items: list[Any], benchmark: str) -> tuple[float | None, dict[str, float]]:
    """Return the official mean and the means of the parts."""
    measured = measure(benchmark, items, "official")
    return measured["mean"], {name: part["mean"] for name, part in measured["parts"].items()}
