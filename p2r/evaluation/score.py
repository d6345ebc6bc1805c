"""Score items by the rules of their benchmark, and compute the numbers of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from p2r.evaluation.benchmark import Asked, Benchmark, Interval, Item, Reading
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.metrics import split_scores
from p2r.evaluation.rules import letter_of, read_robustly
from p2r.scoring import mean_interval


def score_item(benchmark: str | Benchmark, item: Item) -> None:
    """Set the extraction and the score of an item, by both extractors."""
    entry = find_benchmark(benchmark) if isinstance(benchmark, str) else benchmark
    options = tuple(item.options)
    choice = item.problem_type == "multiple choice"
    letter = letter_of(item.truth, options) if choice else None
    asked = Asked(item.truth, item.problem_type, options, item.parts.get("task", ""), letter)
    robust = entry.robust or read_robustly
    if len(item.output) < 40:
        robust = partial(_read_short, robust)
    readings = {
        "official": entry.score(item.output, asked, item.stored),
        "robust": robust(item.output, asked, item.stored.get("rating")),
    }
    item.extraction = {name: reading.extraction for name, reading in readings.items()}
    item.score = {name: reading.score for name, reading in readings.items()}


@lru_cache(maxsize=1 << 16)
def _read_short(
    robust: Callable[..., Reading], output: str, asked: Asked, rating: float | None
) -> Reading:
    return robust(output, asked, rating)


def measure(benchmark: str, items: Sequence[Item], extractor: str) -> dict[str, Any]:
    """Return the score of a benchmark by an extractor: an interval, and "parts" by name.

    Parts are the values of the benchmark's axes, and what its function `parts` adds. If two axes
    have the same value, the part of the later axis is called "axis: value".
    """
    entry = find_benchmark(benchmark)
    parts: dict[str, Interval] = {}
    for axis in entry.axes:
        for name, values in sorted(split_scores(items, extractor, axis).items()):
            parts[f"{axis}: {name}" if name in parts else name] = mean_interval(values)
    parts |= entry.parts(items, extractor)
    whole = next((parts[name] for name in entry.headline if name in parts), None)
    return {**(whole or mean_interval(item.score[extractor] for item in items)), "parts": parts}
