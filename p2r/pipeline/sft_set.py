"""The last step of the CoT pipeline: collect the kept traces into the SFT set.

Names the files of the pipeline, reads and writes their records, and applies the quality filters.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from p2r.cases.store import write_cases
from p2r.engines.responses import ResponseJournal
from p2r.errors import UserError
from p2r.files.journal import MergedJournal, exclusive
from p2r.files.jsonlines import to_line
from p2r.formats import read_cases
from p2r.pipeline.funnel import BAD_RECORD, funnel
from p2r.pipeline.order import ordered_records
from p2r.pipeline.quality import active, find_drops
from p2r.records import Case, Verdict
from p2r.runs import Run, read_json, replacing, write_json
from p2r.runs.recipe import Recipe
from p2r.scoring import score_answer
from p2r.scoring.thoughts import mismatch_tags

GENERATED = "generate.jsonl"  # journal of traces
OUTCOMES = "filter.jsonl"  # journal of outcomes
KEPT = "sft.jsonl"


def read_case(key: str, record: dict[str, Any]) -> Case:
    """Read a trace of the journal; raises `UserError` if the record is damaged."""
    try:
        return Case.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{GENERATED}: the record {key!r} is not a trace ({'.'.join(map(str, first['loc']))}: "
            f"{first['msg']}): remove that line and run `p2r generate` again"
        ) from error


def outcome_of(case: Case, end: str) -> dict[str, Any]:
    """Return the record of a case in the journal of outcomes."""
    verdict = case.verdict and case.verdict.model_dump(mode="json")
    return {
        "end": end,
        "problem_type": case.question.problem_type,
        "accuracy": case.accuracy,
        "verdict": verdict,
        "tags": mismatch_tags(case),
    }


def collect_kept(
    recipe: Recipe, run: Run, judge_name: str, silent: dict[str, Verdict | None]
) -> dict[str, dict[str, int]]:
    """Write `sft.jsonl`, `cases/cot.jsonl` and the funnel from both journals.

    The traces have the order of `p2r.pipeline.order`. The quality filters run here. `silent`: the
    traces without a verdict, with what the judge said. Holds one window of traces in memory at a
    time, and the keys and last funnel steps of all traces.
    """
    generated = ResponseJournal(run.path(GENERATED))
    ends: Counter[tuple[str | None, str]] = Counter(
        (error["problem_type"], "unreadable") for error in generated.errors()
    )
    if bad := sum(_bad_records(run).values()):
        ends[None, BAD_RECORD] = bad
    everything, kept = run.path("cases", "cot.jsonl"), run.path(KEPT)
    with exclusive(run.path(".collect.lock")), MergedJournal(run.path(OUTCOMES)) as outcomes:

        def judged() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
            for key, record in ordered_records(generated):
                outcome = outcomes.get(key)
                if outcome is None:
                    case = read_case(key, record)
                    case.accuracy, case.verdict = score_answer(case), silent.get(key)
                    outcome = outcome_of(case, "verdict unknown")
                yield key, record, outcome

        def kept_cases() -> Iterator[tuple[str, Case]]:
            for key, record, outcome in judged():
                if outcome["end"] == "kept":
                    yield key, read_case(key, {**record, "accuracy": outcome["accuracy"]})

        names = active(recipe.filter.quality)
        drops = find_drops(recipe.filter.quality, kept_cases)
        with replacing(everything) as all_lines, replacing(kept) as kept_lines:
            for key, record, outcome in judged():
                end = drops.get(key, outcome["end"])
                ends[record["question"]["problem_type"], end] += 1
                record["accuracy"], record["verdict"] = outcome["accuracy"], outcome["verdict"]
                mark = "kept" if end == "kept" else f"dropped: {end}"
                # Outcomes of an earlier version have no tags.
                record["tags"] = [mark, *outcome.get("tags", [])]
                line = to_line(record)
                all_lines.write(line)
                if end == "kept":
                    kept_lines.write(line)
        table = funnel(ends, names)
        write_json(run.path("funnel.json"), {"judge": judge_name, "table": table})
    return table


def _bad_records(run: Run) -> dict[str, int]:
    """Return the bad records of the question file by reason, as generation counted them."""
    plans = sorted(run.folder.glob("generate.plan*.json"))
    return read_json(plans[0])["bad_records"] if plans else {}


def read_kept(run: Run, count: int | None = None) -> list[Case]:
    """Return the SFT set of a run, or its first `count` cases.

    Raises `UserError` if there is no SFT set or it is empty.
    """
    path = run.path(KEPT)
    if not path.is_file():
        raise UserError(f"run {run.folder} has no SFT set yet: run `p2r filter` first")
    cases = list(itertools.islice(read_cases(path), count))
    if not cases:
        raise UserError(f"{path} is empty because the filter kept no trace: see funnel.json")
    return cases


def collect_cases(run: Run) -> Path:
    """Write `cases.parquet`: the cases of all stages so far, from `cases/*.jsonl`."""
    files = sorted(run.path("cases").glob("*.jsonl"))
    return write_cases(run.folder, itertools.chain.from_iterable(map(read_cases, files)))
