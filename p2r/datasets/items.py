"""The records of a data set: read from a run or a file, and in the form that p2r publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from p2r.formats import BadRecord, OnBad, read_cases, read_questions
from p2r.formats.rawrecords import NO_TRACE, to_videop2r
from p2r.formats.values import BadValue
from p2r.pipeline import read_kept
from p2r.records import Case, Question
from p2r.runs import Run
from p2r.runs.recipe import load_recipe

# The file of a published set.
EXPORTED = "data/train.jsonl"


def export_record(item: Question | Case) -> dict[str, str | list[str]]:
    """Return a record with the fields of the VideoP2R release.

    `options` is a list and every other field is text, so that a column has one type in the whole
    set.
    """
    question = item.question if isinstance(item, Case) else item
    record = to_videop2r(item)
    record["problem_id"] = str(record.get("problem_id", question.id))
    record["options"] = list(question.options)
    known = {k: v for k, v in record.items() if isinstance(v, str) or k == "options"}
    # All other values (scenes of the playground, scores of a release) go into one text field.
    if rest := {key: value for key, value in record.items() if key not in known}:
        if "meta" in known:
            rest["meta"] = known["meta"]
        known["meta"] = json.dumps(rest)
    return known


def read_items(path: Path, on_bad: OnBad | None = None) -> Iterator[Question | Case]:
    """Read the traces of a file or of a run's SFT set; the questions if a file has no traces.

    `on_bad` gets the bad records of a file; by default they are logged.
    """
    if (path / "recipe.yaml").is_file():
        # Raises with the command to run if there is no SFT set yet.
        read_kept(Run(path, load_recipe(path / "recipe.yaml")), count=1)
        return read_cases(path / "sft.jsonl")
    return read_cases(path, on_bad) if _has_traces(path) else read_questions(path, on_bad)


def _has_traces(path: Path) -> bool:
    """Return whether the first good record has a trace."""

    def stop(bad: BadRecord) -> None:
        if bad.reason == NO_TRACE:
            raise BadValue(bad.reason)

    try:
        return next(read_cases(path, stop), None) is not None
    except BadValue:
        return False
