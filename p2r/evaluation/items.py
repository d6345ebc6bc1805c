"""One answered question of a benchmark, as result files keep it and scoring reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from p2r.evaluation.benchmark_records import Fields
from p2r.evaluation.official import Asked, Reading, score_official
from p2r.evaluation.robust import score_robust
from p2r.scoring.answers import extract_choice

EXTRACTORS = ("official", "robust")


@dataclass(slots=True)
class Item:
    """A question, the output it got, and what its source stored of it.

    `parts`: its values by axis of the benchmark (`{"task": "yes_no"}`). `stored`: what came with
    the output: "extraction", "score", "rating" (of an LLM), "verdict", "steps" (judged). `trace`:
    segments, media and counts of a response made here. `extraction` and `score` by extractor.
    """

    id: str
    output: str
    truth: str
    problem_type: str
    options: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    stored: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, Any] = field(default_factory=dict)
    extraction: dict[str, str | None] = field(default_factory=dict)
    score: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: Fields, id: str, output: str, stored: dict[str, Any] | None = None) -> Item:
        """The item of a question and an output."""
        return cls(
            id=id,
            output=output,
            truth=fields.truth,
            problem_type=fields.problem_type,
            options=fields.options,
            parts=fields.parts,
            problem=fields.problem,
            stored=stored or {},
        )

    def to_dict(self) -> dict[str, Any]:
        """The item as JSON, without what is empty."""
        return {key: value for key, value in asdict(self).items() if value not in ({}, [], "")}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Item:
        """The inverse of `to_dict`; an output that was empty is empty again."""
        known = {name: record[name] for name in cls.__slots__ if name in record}
        return cls(**{"id": "", "output": "", "truth": "", "problem_type": "", **known})


def score_item(benchmark: str, item: Item) -> None:
    """Fill in an item's extraction and score, by both extractors."""
    options = tuple(item.options)
    letter = None
    if item.problem_type == "multiple choice":
        letter = letter_of(item.truth, options)
    task = item.parts.get("task", "")
    rating = item.stored.get("rating")
    asked = Asked(item.truth, item.problem_type, options, task, letter)
    readings: dict[str, Reading] = {
        "official": score_official(benchmark, item.output, asked, item.stored),
        "robust": _robust(benchmark, item.output, asked, rating),
    }
    item.extraction = {name: reading.extraction for name, reading in readings.items()}
    item.score = {name: reading.score for name, reading in readings.items()}


@lru_cache(maxsize=1 << 16)
def letter_of(truth: str, options: tuple[str, ...]) -> str | None:
    """The letter of the right option; None where the reference answer is none."""
    return extract_choice(truth, options or None)


# Many outputs are one letter: those are read once for each set of options.
@lru_cache(maxsize=1 << 16)
def _short(benchmark: str, output: str, asked: Asked, rating: float | None) -> Reading:
    return score_robust(benchmark, output, asked, rating)


def _robust(benchmark: str, output: str, asked: Asked, rating: float | None) -> Reading:
    read = _short if len(output) < 40 else score_robust
    return read(benchmark, output, asked, rating)
