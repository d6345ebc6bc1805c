"""VCR-Bench: video chain-of-thought reasoning; the multiple-choice subset.

Official rule: exact match of the letter. Its authors ask an LLM. If a source stored the LLM's
verdict, that verdict counts. Judged reasoning steps give precision, recall and F1 (cau_total.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from p2r.evaluation.benchmark import (
    Benchmark,
    Fields,
    Interval,
    Item,
    OtherSubset,
    PaperColumn,
    Record,
)
from p2r.evaluation.metrics import Clips
from p2r.evaluation.records import base_fields, given_type
from p2r.evaluation.rules import apply_rule, match_letter
from p2r.formats.values import text_of
from p2r.scoring.answers import parse_number

STEP_KINDS = {"Video Description Steps": "Video", "Logical Inference Steps": "logic"}


def read(record: Record, task: str) -> Fields:
    """Return the fields of a record. Only multiple-choice questions are in the subset."""
    fields = read_any(record, task)
    if fields.problem_type != "multiple choice":
        raise OtherSubset("open-ended question: the subset is multiple choice")
    return fields


def read_any(record: Record, task: str) -> Fields:
    """Return the fields of a record. Durations in seconds become three ranges.

    The judgements that a source stored go to `Fields.stored`. Like in the authors' script, only the
    text "1" is a positive verdict.
    """
    multiple = record.get("multiple-choice", record.get("multiple_choice"))
    kind = given_type(record, "multiple choice")
    if multiple in (False, "False", "false"):
        kind = "free-form"
    seconds = parse_number(text_of(record.get("duration")))
    bucket = ""
    if seconds is not None:
        bucket = "0-60" if seconds <= 60 else "60-300" if seconds <= 300 else "300+"
    parts = {"dimension": record.get("dimension"), "duration": bucket}
    fields = base_fields(record, kind, parts)
    if "answer_scoring" in record:
        fields.stored["verdict"] = float(record["answer_scoring"] == "1")
    if isinstance(record.get("extract_answer"), str):
        fields.stored["extraction"] = record["extract_answer"]
    steps = {k: v for k, v in record.items() if k.endswith(("_recall", "_precision", "_eval"))}
    if steps:
        fields.stored["steps"] = steps
    return fields


def parts(items: Sequence[Item], extractor: str) -> dict[str, Interval]:
    """Return the numbers of the judged reasoning steps. They do not depend on the extractor."""
    return chain_of_thought(items)


def chain_of_thought(items: Iterable[Item]) -> dict[str, Interval]:
    """Return precision, recall and F1 of the judged reasoning steps, or {} if none were judged.

    `stored["steps"]` holds the source's numbers: `Video_precision`, `logic_recall`,
    `overall_precision` and so on. An empty string is unknown. F1 is computed from the mean
    precision and the mean recall, like the script does, and has no interval.
    """
    known = [item for item in items if item.stored.get("steps")]
    judged, clips = [_numbers_of(item.stored["steps"]) for item in known], Clips.of(known)
    parts: dict[str, Interval] = {}
    for kind in ("Video", "logic", "overall") if judged else ():
        pair = {
            what: clips.interval(
                value if isinstance(value := steps.get(f"{kind}_{what}"), int | float) else None
                for steps in judged
            )
            for what in ("precision", "recall")
        }
        parts |= {f"cot {kind.lower()} {what}": interval for what, interval in pair.items()}
        precision, recall = (interval["mean"] for interval in pair.values())
        f1 = None
        if precision is not None and recall is not None:
            f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        parts[f"cot {kind.lower()} f1"] = {"mean": f1, "low": None, "high": None, "n": len(judged)}
    return parts


def count_steps(steps: Sequence[Mapping[str, str]], what: str) -> dict[str, float | str]:
    """Return the "recall" or "precision" of a judge's list of steps, by kind and overall.

    A step is {"step_type", "judgment"}. For recall, the reference's steps are "Matched" or
    "Unmatched". For precision, the response's steps are "Matched", "Wrong" or "Redundant".
    Background steps and redundant steps do not count. A number without any step is "" (VCR-Bench,
    eval.py).
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
    """Return the stored numbers of an item. Missing ones are counted from the stored judgement."""
    numbers = dict(stored)
    for what in ("recall", "precision"):
        text = stored.get(f"{what}_eval")
        if f"overall_{what}" in stored or not isinstance(text, str):
            continue
        try:
            steps = json.loads(text[text.index("[") : text.rindex("]") + 1])
            numbers |= count_steps([step for step in steps if isinstance(step, dict)], what)
        except ValueError:  # the judge's reply holds no list: unknown
            continue
    return numbers


BENCHMARK = Benchmark(
    name="vcrbench",
    title="VCR-Bench",
    files="meta_info_video.json",
    media="{video_path}",
    subset="multiple choice, 510 of 1,034",
    expected=510,
    total=1034,
    metric="accuracy; precision, recall and F1 of the reasoning steps if they were judged",
    axes=("dimension", "duration"),
    licence="see its card; videos come from other data sets, with their terms",
    download="hub VLM-Reasoning/VCR-Bench: meta_info_video.json and the videos",
    paper=PaperColumn(4, (44.3, 54.9, 49.0, 49.0, 49.6, 49.8, 49.6, 51.0, 45.3)),
    read=read,
    score=partial(apply_rule, match_letter),
    parts=parts,
)
