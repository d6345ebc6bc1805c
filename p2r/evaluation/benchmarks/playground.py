"""Playground: the synthetic scenes that p2r generates itself.

Rule: accuracy by problem type, the same function that the CoT filter and the reward use.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from p2r.evaluation.benchmark import Asked, Benchmark, Fields, Reading, Record, ask_plainly
from p2r.evaluation.records import base_fields, given_type, options_of
from p2r.evaluation.rules import apply_rule
from p2r.scoring import accuracy
from p2r.scoring.answers import extract_choice
from p2r.template import answer_of


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record."""
    kind = given_type(record, "multiple choice" if options_of(record) else "free-form")
    return base_fields(record, kind, {"problem type": kind})


def score(output: str, asked: Asked, stored: Mapping[str, Any]) -> Reading:
    """Score an output by its problem type. An extraction that a source stored is not used."""
    stored = {key: value for key, value in stored.items() if key != "extraction"}
    return apply_rule(_by_problem_type, output, asked, stored, whole_output=True)


def _by_problem_type(text: str, asked: Asked) -> Reading:
    answer = answer_of(text)
    found = accuracy(asked.problem_type, answer, asked.truth, asked.options)
    if asked.problem_type == "multiple choice":
        answer = extract_choice(answer, asked.options) if answer else None
    return Reading(answer, found)


BENCHMARK = Benchmark(
    name="playground",
    title="Playground",
    files="questions in JSON lines, as `p2r` writes them",
    media="{path}",
    subset="held-out scenes",
    metric="accuracy by problem type, as in the CoT filter and the reward",
    axes=("problem type",),
    licence="none needed: made by this package",
    download="made by the run itself",
    built_in=True,
    read=read,
    ask=partial(ask_plainly, ""),
    score=score,
)
