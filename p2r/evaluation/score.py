"""Score items and compute the numbers of a benchmark, by the benchmark's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from p2r.evaluation.benchmark import Benchmark, Interval, Item
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.metrics import Clips, split_positions
from p2r.evaluation.rules import score_with


def score_item(benchmark: str | Benchmark, item: Item) -> None:
    """Set the extraction and the score of an item, by both extractors."""
    score_with(find_benchmark(benchmark) if isinstance(benchmark, str) else benchmark, item)


def measure(benchmark: str, items: Sequence[Item], extractor: str) -> dict[str, Any]:
    """Return the score of a benchmark by an extractor: an interval, and "parts" by name.

    Parts are the values of the benchmark's axes, and what its function `parts` adds. If two axes
    have the same value, the part of the later axis is called "axis: value".
    """
    entry = find_benchmark(benchmark)
    parts: dict[str, Interval] = {}
    clips = Clips.of(items)
    scores = [item.score[extractor] for item in items]
    for axis in entry.axes:
        for name, positions in sorted(split_positions(items, axis).items()):
            values = [scores[position] for position in positions]
            part = f"{axis}: {name}" if name in parts else name
            parts[part] = clips.interval(values, positions)
    parts |= entry.parts(items, extractor)
    return {**(_headline(entry, parts) or clips.interval(scores)), "parts": parts}


def measure_whole(benchmark: str, items: Sequence[Item], extractor: str) -> Interval:
    """Return the score of a benchmark as `measure` does, without its parts."""
    entry = find_benchmark(benchmark)
    whole = _headline(entry, entry.parts(items, extractor)) if entry.headline else None
    return whole or Clips.of(items).interval(item.score[extractor] for item in items)


def _headline(entry: Benchmark, parts: Mapping[str, Interval]) -> Interval | None:
    return next((parts[name] for name in entry.headline if name in parts), None)
