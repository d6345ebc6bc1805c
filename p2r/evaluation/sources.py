"""Opens files of questions and of stored outputs, and counts the records that cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r.evaluation.benchmark import Benchmark, Raw
from p2r.evaluation.tables import SUFFIXES, read_file
from p2r.files.lenient_json import split_fault

EXAMPLES = 5


@dataclass
class Notes:
    """Counts of what was left out or is odd, by reason, with a few examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, reason: str, example: str) -> None:
        """Count a reason and keep its first examples."""
        self.counts[reason] += 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES:
            kept.append(" ".join(example.split())[:200])

    def example(self, reason: str) -> str:
        """Return the first example of a reason, or "…"."""
        return next(iter(self.examples.get(reason, ())), "…")


def files_in(path: Path) -> list[Path]:
    """Return the readable files of a folder in order, or the file itself."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES))


def read_official(benchmark: Benchmark, file: Path) -> Iterator[Raw]:
    """Yield the records of a file in the benchmark's own layout, each with its task."""
    task = benchmark.task_of_file(file)
    value = read_file(file)
    unpacked = benchmark.unpack(file, value) if benchmark.unpack else None
    if unpacked is None:
        value = only_list(value)
        if isinstance(value, dict):
            value, faults = split_fault(value)
            value = [value, *faults]
        unpacked = ((record, task) for record in value)
    yield from unpacked


def only_list(value: Any) -> Any:
    """Return the list of records in an object that has nothing else, such as {"questions": […]}."""
    if isinstance(value, dict) and value.keys() & {"questions", "annotations", "QA"}:
        lists = [part for part in value.values() if isinstance(part, list)]
        if len(lists) == 1 and all(isinstance(one, dict) for one in lists[0]):
            return lists[0]
    return value
